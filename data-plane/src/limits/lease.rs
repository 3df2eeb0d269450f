//! Tokens of one bucket that a worker was granted and has not spent yet.
//!
//! Pure: time is passed in, and what is to be asked of Redis comes out. The promise kept here, for
//! every window t, however many nodes there are and whatever becomes of them:
//!
//! ```text
//! admitted <= burst + rate x (t + L),  L = 100 ms
//! ```
//!
//! Redis grants at most burst + rate x t in a window. A token may be spent later than it was
//! granted, in one of two ways:
//!
//! - At most [`SHORT`] = 80 ms later, counted from when it was asked for. What is admitted in a
//!   window was then granted in one that is as much longer.
//! - At most [`LONG`] later, where a worker holds few: all of them together [`HELD`] = 10 ms of the
//!   rate, 20 while a node that has just come is not known to all. This spares keys that are used
//!   a few times a second a call for each request. Where it is not known how many nodes there are,
//!   no token is held like that.
//!
//! A token of a quota is spent in the day or month it was granted in, and given back after [`IDLE`];
//! no grant is more than an eighth of what is left, divided by all workers that are known. Where that is
//! one, it goes back after [`SHORT`]: what nobody spends of the last ones is missing to others. No time
//! makes up for one that is lost: so those held are given back too when the limit is changed, when the
//! connection is another one and when the worker ends. Whoever finds the quota used up is not sent away
//! for a day while others may hold tokens of it, but until they have given them back.
//!
//! Tokens are fetched when half of them are spent, so that few requests wait. Where that is one or two,
//! a request would rather wait for its own call than have tokens end unspent; but not for a Redis that
//! is [`FAR`]. Of that, few are fetched ahead too, where they come to be spent at the pace of late; and
//! where requests come to an empty bucket one after the other, none waits to see whether a token is
//! there again: the one that finds it is time sends the call and is refused, as it would have been a
//! little earlier, and one that follows takes the token. All of that asks for no more and holds for no
//! longer than the above. What still waits are requests of keys that are used more seldom than a token
//! of theirs may be held.
//!
//! Of a bucket that requests are charged to when they are over nothing is leased. A request is admitted
//! while there is a token, as far as was known 100 ms ago; what it cost is told with the next call.
//!
//! What is void then is given back (see `limit.lua` for why that is safe): many at once, by a call of
//! their own if need be; few with the next call there is.

use super::{
    ask::{Ask, Back, Grant, Mark, Version},
    batches::{Batch, Batches},
    crowd::{Crowd, HELD, SLACK},
    debt::Debt,
    gcra::{Bucket, Level, Refill},
};

const MILLISECOND: u64 = 1_000_000;

/// How long a token can be spent, from when it was asked for.
pub(super) const SHORT: u64 = 80 * MILLISECOND;

/// How long one of a few can be. A key that is used twice a second takes one call for 30 requests then.
const LONG: u64 = 30_000 * MILLISECOND;

/// How long tokens of a quota are kept that nobody spends: more than a few may be.
const IDLE: u64 = 10_000 * MILLISECOND;

/// How long it takes to give back what has ended, at most.
const GIVING_BACK: u64 = 200 * MILLISECOND;

const _: () = assert!(SHORT + 2 * HELD <= SLACK);

/// A bucket found empty is not asked again before this: there may be a token every few microseconds,
/// and as many workers that want it. It stays in the bucket until it is fetched together with others.
const PAUSE: u64 = 20 * MILLISECOND;

/// An empty bucket is asked again after this at the latest: someone may have filled it up.
const RECHECK: u64 = 1_000 * MILLISECOND;

/// How many are fetched at first, if so many may be held for long: a key that comes a few times
/// then takes one call.
const FIRST: u64 = 16;

/// What is known of a bucket that requests are charged to holds for so long.
const FRESH: u64 = SLACK;

/// Fewer than this are not worth fetching before they are needed.
const WORTH_PREFETCH: u64 = 4;

/// A Redis whose answers take longer is far: requests of a pace are not to wait for it.
pub(super) const FAR: u64 = MILLISECOND;

/// Requests that are refused no further apart than this will spend a token that comes between them.
const OVERLOAD: u64 = SHORT / 2;

/// What a worker holds and knows of one bucket.
#[derive(Debug)]
pub(super) struct Lease {
    bucket: Bucket,
    /// Number of the connection to Redis all this came over. A new one may lead to another Redis.
    epoch: u32,
    batches: Batches,
    /// Void tokens.
    back: Back,
    /// Whether they are enough for a call of their own.
    is_back_due: bool,
    /// Where the bucket stood when last heard of.
    seen: Seen,
    /// Redis has no token before this, or is being asked for one.
    empty_until: u64,
    /// When a request was refused last, since the bucket was found empty.
    refused_at: u64,
    /// How many are asked for at a time.
    size: u64,
    last_granted: u64,
    /// Spent since tokens were last asked for.
    used: u64,
    asked_at: u64,
    /// How long one lasted before that.
    lasted: u64,
    debt: Debt,
    /// Whether Redis is to be told how much was taken, as it may be another one.
    is_new_redis: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    /// The room taken.
    taken: u64,
    at: u64,
    /// When the day or month of a quota is over.
    ends: Option<u64>,
    /// From when on nobody holds tokens of a quota any more, if nobody is granted any.
    settled: u64,
    /// The value of a quota that says so.
    version: Version,
}

/// Whether a request can be admitted without Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stock {
    /// There is a token.
    Held,
    /// There is none, and none in Redis.
    Empty,
    /// Redis must be asked.
    Unknown,
}

impl Lease {
    /// Nothing held, nothing known.
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            epoch: 0,
            batches: Batches::default(),
            back: Back::default(),
            is_back_due: false,
            seen: Seen::default(),
            empty_until: 0,
            refused_at: 0,
            size: 1,
            last_granted: 0,
            used: 0,
            asked_at: 0,
            lasted: u64::MAX,
            debt: Debt::default(),
            is_new_redis: false,
        }
    }

    /// Goes on with the bucket a limit has now, over the connection there is now. What was granted
    /// of another is void; where it stood holds on, as time to wait.
    pub(super) fn follow(&mut self, bucket: Bucket, epoch: u32) {
        if self.bucket == bucket && self.epoch == epoch {
            return;
        }
        let before = std::mem::replace(self, Self::new(bucket));
        (self.epoch, self.size, self.debt) = (epoch, before.size, before.debt);
        self.is_new_redis = before.is_new_redis || before.epoch != epoch;
        if before.bucket.refill == bucket.refill {
            // Time of a rate and tokens of a quota say nothing of each other.
            self.seen = before.seen;
        }
        let Self { bucket, batches, back, .. } = before;
        self.void(bucket, back.tokens, back.mark);
        batches.into_iter().for_each(|batch| self.void(bucket, batch.tokens, batch.mark));
    }

    /// Gives back all that is held of a quota.
    pub(super) fn give_up(&mut self) {
        let (bucket, batches) = (self.bucket, std::mem::take(&mut self.batches));
        batches.into_iter().for_each(|batch| self.void(bucket, batch.tokens, batch.mark));
    }

    /// Has tokens given back that were granted of the quota as it was. Those of a rate time makes up
    /// for. Where the mark is of another Redis than there is now, nothing comes of it.
    fn void(&mut self, of: Bucket, tokens: u64, mark: Mark) {
        let is_of_quota = of.refill == self.bucket.refill && of.refill != Refill::Steady;
        if is_of_quota && tokens > 0 {
            self.back.add(tokens * of.interval / self.bucket.interval, mark);
            self.is_back_due = true;
        }
    }

    /// Where it stands.
    pub(super) fn stock(&mut self, now: u64) -> Stock {
        if self.seen.ends.is_some_and(|ends| ends <= now) {
            let Self { bucket, epoch, size, debt, .. } = *self;
            *self = Self { epoch, size, debt, ..Self::new(bucket) };
        }
        if self.bucket.is_charged {
            return self.stock_to_owe(now);
        }
        if self.batches.are_void(now) {
            self.take_out_void(now);
        }
        if self.held() > 0 {
            Stock::Held
        } else if now < self.empty_until {
            Stock::Empty
        } else {
            Stock::Unknown
        }
    }

    fn stock_to_owe(&self, now: u64) -> Stock {
        let is_known = self.seen.at > 0 && now < self.seen.at + FRESH;
        if now < self.empty_until {
            Stock::Empty
        } else if !is_known {
            Stock::Unknown
        } else if self.bucket.free(self.level(now).taken) > 0 {
            Stock::Held
        } else {
            Stock::Empty
        }
    }

    /// Notes what a request cost that is over, in a day or month that is over in `ends_in`.
    pub(super) fn owe(&mut self, tokens: u64, now: u64, ends_in: Option<u64>) {
        let most = self.bucket.tokens_in(self.bucket.most());
        self.debt.add(tokens, most, now, ends_in.map_or(0, |ends_in| now + ends_in));
    }

    /// Notes that Redis passed over what it was told by an ask, and that it is to be told again.
    pub(super) fn owe_again(&mut self, ask: &Ask, passed_over: u64, sent: u64) {
        self.debt.is_untold(passed_over, sent.saturating_sub(ask.spent_for * 1_000));
    }

    /// Spends one of the tokens held.
    pub(super) fn spend(&mut self) {
        self.used += u64::from(self.batches.spend());
    }

    /// Whether the bucket had no token when last heard of.
    pub(super) fn was_empty(&self) -> bool {
        self.empty_until > 0
    }

    /// Notes a request that was refused.
    pub(super) fn refuse(&mut self, now: u64) {
        self.refused_at = now;
    }

    /// Whether a request is refused though Redis may have a token, for which it is to be asked: others
    /// were just now, and the next one will take it. If so, no other asks before the answer is there,
    /// which takes so long.
    pub(super) fn puts_off(&mut self, now: u64, answer_time: u64) -> bool {
        let is_in_overload =
            self.refused_at > 0 && now < self.refused_at + OVERLOAD && !self.bucket.is_charged;
        if is_in_overload {
            // Some answers take longer than others.
            self.empty_until = now + 2 * answer_time;
        }
        is_in_overload
    }

    /// Whether it is time to fetch more.
    pub(super) fn runs_low(&self, now: u64) -> bool {
        if self.bucket.is_charged {
            return self.seen.at + FRESH / 2 <= now;
        }
        self.size >= WORTH_PREFETCH && self.is_half_spent(now)
    }

    /// Whether it is time to fetch as few as are not worth it where Redis is near. Of a quota they would
    /// be what is left to others.
    pub(super) fn runs_low_of_few(&self, now: u64, crowd: Crowd) -> bool {
        let then_held = self.held() + self.size;
        let are_few = then_held <= crowd.held(self.bucket);
        let life = if are_few { self.life_of_few() } else { SHORT };
        self.bucket.refill == Refill::Steady
            && !self.bucket.is_charged
            && self.is_half_spent(now)
            && self.lasted.saturating_mul(then_held) <= life
    }

    fn is_half_spent(&self, now: u64) -> bool {
        now >= self.empty_until
            && (self.held() <= self.last_granted / 2 || self.batches.are_half_over(now))
    }

    /// Where the bucket stands, what is held counted as if it were in it.
    pub(super) fn level(&self, now: u64) -> Level {
        let taken = self.taken(now).saturating_sub(self.held() * self.bucket.interval);
        let owed = if self.bucket.is_charged { self.debt.tokens() } else { 0 };
        let mut taken = self.bucket.charge(taken, owed);
        // Whoever is refused is told so, also where a token may be there that is not asked for yet.
        if self.held() == 0 && now < self.empty_until {
            taken = taken.max(self.bucket.capacity - self.bucket.room(1) + 1);
        }
        self.level_of(taken, now)
    }

    /// Where it stands with so much taken: a quota that is used up is so until its day or month is over,
    /// or others have given back what they hold.
    fn level_of(&self, taken: u64, now: u64) -> Level {
        let Seen { ends, settled, .. } = self.seen;
        let may_come_back = now < settled && self.bucket.free(taken) == 0;
        let until = ends.map(|ends| if may_come_back { settled.min(ends) } else { ends });
        self.bucket.level_of(taken, until.map(|until| until.saturating_sub(now)))
    }

    /// How much of it is taken, as far as Redis said.
    pub(super) fn taken(&self, now: u64) -> u64 {
        let Seen { taken, at, ends, .. } = self.seen;
        match (self.bucket.refill, ends) {
            (Refill::Steady, _) => (at + taken).saturating_sub(now),
            (Refill::Calendar(_), Some(ends)) if now < ends => taken,
            (Refill::Calendar(_), _) => 0,
        }
    }

    /// How much is taken of a bucket that may be another one than it was when Redis said so. What is
    /// beyond the most there can be is forgiven from now on.
    pub(super) fn taken_of(&mut self, bucket: Bucket, now: u64) -> u64 {
        if bucket.refill != self.bucket.refill {
            return 0;
        }
        let taken = self.taken(now);
        if bucket.refill == Refill::Steady && taken > bucket.most() {
            self.seen.taken = now.saturating_sub(self.seen.at) + bucket.most();
        }
        taken.min(bucket.most())
    }

    /// What to ask for: as many as will be needed in half the time they can be spent in, at the
    /// pace of late, and at least as many as there are requests that wait.
    pub(super) fn ask(&mut self, now: u64, waiting: u64, crowd: Crowd) -> Ask {
        if self.bucket.is_charged {
            return self.settle(now);
        }
        let window = now.saturating_sub(self.asked_at).max(1);
        self.lasted = window / self.used.max(1);
        let needed_in = |time: u64| self.used.saturating_mul(time) / window;
        let lasting = needed_in(self.life_of_few() / 2);
        // How many can be had for long.
        let few = match self.bucket.refill {
            Refill::Steady => crowd.held(self.bucket) / 2,
            Refill::Calendar(_) => lasting.max(FIRST),
        };
        let needed = match needed_in(SHORT / 2) {
            many if many > few => many,
            _ => lasting.min(few),
        };
        let size = match self.asked_at {
            0 => few.min(FIRST).max(self.size),
            _ => needed.clamp(self.size / 2, self.size * 2),
        };
        self.size = size.clamp(1, crowd.largest(self.bucket, self.taken(now)));
        (self.used, self.asked_at) = (0, now);
        Ask { want: self.size.max(waiting), ..self.settle(now) }
    }

    /// Asks for nothing, but says what is to be said.
    pub(super) fn settle(&mut self, now: u64) -> Ask {
        let back = std::mem::take(&mut self.back);
        self.is_back_due = false;
        if self.bucket.refill != Refill::Steady {
            // What another Redis is told to be taken at least is without them.
            let given_back = back.tokens.saturating_mul(self.bucket.interval);
            self.seen.taken = self.seen.taken.saturating_sub(given_back);
        }
        self.debt.forget_if_full(now);
        let floor = if self.is_new_redis { self.taken(now) } else { 0 };
        let (spent, spent_for) = (self.debt.tokens(), self.debt.age(now));
        let seen = self.seen.version;
        Ask { spent, spent_for, back, floor, seen, ..Ask::about(self.bucket) }
    }

    /// Takes what Redis gave for an ask that went over the connection `epoch`, was sent at `sent` and
    /// answered at `landed`.
    pub(super) fn take(
        &mut self,
        (ask, grant): (&Ask, &Grant),
        (epoch, sent, landed): (u32, u64, u64),
        crowd: Crowd,
    ) {
        self.debt.is_told(ask.spent, sent);
        if ask.bucket != self.bucket || epoch != self.epoch {
            self.void(ask.bucket, grant.tokens, grant.mark);
            return;
        }
        self.is_new_redis = false;
        // Redis said so after it was sent: the period ends no earlier than that.
        let ends = grant.ends_in.map(|ends_in| sent + ends_in);
        let settled = landed + self.held_by_others_for(grant, crowd);
        self.seen = Seen { taken: grant.taken, at: landed, ends, settled, version: grant.version };
        let wait = self.bucket.wait_nanos(self.level_of(grant.taken, landed));
        if wait > 0 {
            // A small bucket must not run over meanwhile.
            let pause = PAUSE.min(self.bucket.capacity / 8);
            self.empty_until = landed + wait.max(pause).min(RECHECK);
        } else {
            (self.empty_until, self.refused_at) = (0, 0);
        }
        if grant.tokens == 0 {
            return;
        }
        self.last_granted = grant.tokens;
        let are_few = self.held() + grant.tokens <= crowd.held(self.bucket);
        let life = match self.bucket.refill {
            Refill::Steady if are_few => LONG,
            Refill::Steady => SHORT,
            Refill::Calendar(_) => self.life_of_quota(grant.taken, crowd),
        };
        self.batches.put(Batch {
            tokens: grant.tokens,
            ends: sent + life,
            half: sent + life / 2,
            are_few,
            mark: grant.mark,
        });
    }

    /// Notes a request that was admitted without Redis, in a day or month that is over in `ends_in`.
    /// Debts from before the bucket was full again are forgotten.
    pub(super) fn spend_without_redis(&mut self, now: u64, crowd: Crowd, ends_in: Option<u64>) {
        let full_at = match ends_in {
            Some(ends_in) => now + ends_in,
            None => {
                let full_at = self.debt.full_at().max(self.seen.at + self.seen.taken).max(now);
                full_at + self.bucket.interval.saturating_mul(crowd.size())
            }
        };
        self.debt.add(1, u64::MAX, now, full_at);
    }

    /// Whether there may be tokens to be given back by a call of their own, now or soon, or a debt to be
    /// told.
    pub(super) fn has_business(&self) -> bool {
        self.is_due() || self.batches.are_many()
    }

    /// Whether there is something to be told by a call of its own: tokens that are given back, or what
    /// was spent or charged.
    pub(super) fn is_due(&self) -> bool {
        self.is_back_due || self.debt.tokens() > 0
    }

    fn take_out_void(&mut self, now: u64) {
        for batch in self.batches.take_void(now) {
            self.back.add(batch.tokens, batch.mark);
            self.is_back_due |= !batch.are_few;
        }
    }

    /// How long a token of a quota is kept in which so much is taken.
    fn life_of_quota(&self, taken: u64, crowd: Crowd) -> u64 {
        if crowd.largest(self.bucket, taken) > 1 { IDLE } else { SHORT }
    }

    /// How long others may hold tokens of a quota yet: all that were granted were so when it was
    /// written last, or before.
    fn held_by_others_for(&self, grant: &Grant, crowd: Crowd) -> u64 {
        match self.bucket.refill {
            Refill::Calendar(calendar) if !self.bucket.is_charged => {
                let longest = self.life_of_quota(0, crowd);
                (longest + GIVING_BACK).saturating_sub(grant.age(calendar))
            }
            Refill::Steady | Refill::Calendar(_) => 0,
        }
    }

    fn life_of_few(&self) -> u64 {
        match self.bucket.refill {
            Refill::Steady => LONG,
            Refill::Calendar(_) => IDLE,
        }
    }

    fn held(&self) -> u64 {
        self.batches.tokens()
    }
}

#[cfg(test)]
mod tests;
