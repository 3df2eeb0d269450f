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

    /// When the bucket will be full again, and not before `seen`.
    pub(super) fn full_at(&mut self, seen: u64) -> u64 {
        self.full_at = self.full_at.max(seen);
        self.full_at
    }

    /// Adds some, but no more than it can hold.
    pub(super) fn add(&mut self, tokens: u64, most: u64, now: u64) {
        if self.tokens == 0 {
            self.since = now;
        }
        self.tokens = self.tokens.saturating_add(tokens).min(most);
    }

    /// Adds one that was spent without Redis. The bucket will be full again then.
    pub(super) fn spend(&mut self, now: u64, full_at: u64) {
        self.forget_if_full(now);
        self.add(1, u64::MAX, now);
        self.full_at = full_at;
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
