//! Tokens of one bucket that were spent without Redis, or charged, and that it was not told of.

/// What a worker owes a bucket.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Debt {
    tokens: u64,
    /// When the first of them was.
    since: u64,
    /// When the bucket will be full again, if everybody spends as this worker does; when the day or
    /// month of a quota is over. 0: that is not known.
    full_at: u64,
}

impl Debt {
    /// How many there are.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Microseconds since the first was spent.
    pub(super) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since).div_ceil(1_000)
    }

    /// When the bucket will be full again.
    pub(super) fn full_at(&self) -> u64 {
        self.full_at
    }

    /// Adds some, but no more than it can hold. The bucket will be full again then.
    pub(super) fn add(&mut self, tokens: u64, most: u64, now: u64, full_at: u64) {
        self.forget_if_full(now);
        if self.tokens == 0 {
            self.since = now;
        }
        self.tokens = self.tokens.saturating_add(tokens).min(most);
        self.full_at = full_at;
    }

    /// Takes back that Redis was told of so many, the first of which was spent then.
    pub(super) fn is_untold(&mut self, tokens: u64, since: u64) {
        self.since = if self.tokens == 0 { since } else { self.since.min(since) };
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Forgets what is from before the bucket was full again.
    pub(super) fn forget_if_full(&mut self, now: u64) {
        if self.full_at > 0 && self.full_at <= now {
            self.tokens = 0;
        }
    }

    /// Notes that Redis was told of so many, which were all there were when that was sent.
    pub(super) fn is_told(&mut self, tokens: u64, sent: u64) {
        self.tokens = self.tokens.saturating_sub(tokens);
        self.since = self.since.max(sent);
    }
}
