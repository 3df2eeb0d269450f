//! Buckets in this process, exact across its workers and in bounded memory.
//!
//! A bucket is one atomic number. A worker holds on to those it has used; the shared table, which
//! has locks, is asked only for others. A bucket that is thrown out is marked as gone, so that a
//! worker that still holds it looks for the one in its place.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire},
        },
    },
};

use foldhash::fast::RandomState;

use super::{
    clock::Clock,
    gcra::{Bucket, Level, Moment},
    policy::Each,
};

/// Stands in a bucket that is no longer in the table. No TAT comes near it.
const GONE: u64 = u64::MAX;

/// Locks of a table: enough that workers seldom meet.
const SHARDS: usize = 64;

/// The most buckets of keys. One takes about 150 bytes.
const KEY_BUCKETS: usize = 1 << 18;

/// The most buckets of addresses, of which anyone can have many.
const ADDRESS_BUCKETS: usize = 1 << 16;

/// The buckets of a process.
pub(super) struct Buckets {
    clock: Clock,
    keys: Table,
    addresses: Table,
}

/// Whose buckets: addresses must not push those of keys out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Key,
    Address,
}

/// A worker's hold on one bucket, which costs nothing until it is used.
pub(super) struct Hold {
    class: Class,
    name: Arc<str>,
    cell: RefCell<Option<Arc<AtomicU64>>>,
}

/// One limit to be passed: where it is counted, and how.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) hold: &'a Hold,
    pub(super) bucket: Bucket,
}

/// What became of some claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    /// Whether every bucket gave a token; otherwise none did.
    pub(super) admitted: bool,
    /// Where each bucket stands, in the order of the claims.
    pub(super) levels: Each<Level>,
}

impl Hold {
    /// On a bucket of this name.
    pub(super) fn new(class: Class, name: Arc<str>) -> Self {
        Self { class, name, cell: RefCell::default() }
    }

    /// Names the bucket.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Buckets {
    /// No buckets yet.
    pub(super) fn new(clock: Clock) -> Self {
        let (keys, addresses) = (Table::new(KEY_BUCKETS), Table::new(ADDRESS_BUCKETS));
        Self { clock, keys, addresses }
    }

    /// Takes a token from every bucket, or none.
    pub(super) fn admit(&self, claims: &[Claim<'_>], now: u64) -> Tally {
        loop {
            let mut open = Each::new();
            for Claim { hold, bucket } in claims {
                let now_there = self.clock.moment(bucket.refill, now);
                open.push(Open { bucket, cell: self.cell(hold, now), now: now_there });
            }
            if let Some(tally) = admit(&open) {
                return tally;
            }
            // A bucket was thrown out just now: look for the one in its place.
        }
    }

    /// Says where a bucket stands.
    pub(super) fn level(&self, Claim { hold, bucket }: Claim<'_>, now: u64) -> Level {
        // One that was thrown out just now was full.
        let tat = live(self.cell(hold, now).load(Acquire)).unwrap_or(0);
        bucket.level(tat, self.clock.moment(bucket.refill, now))
    }

    /// Charges a bucket with so many tokens.
    pub(super) fn charge(&self, Claim { hold, bucket }: Claim<'_>, tokens: u64, now: u64) {
        let moment = self.clock.moment(bucket.refill, now);
        let charged = |tat: u64| {
            let taken = bucket.level(live(tat)?, moment).taken;
            Some(moment.at + bucket.charge(taken, tokens))
        };
        // An error means that the bucket was thrown out just now: little is lost with it.
        let _ = self.cell(hold, now).fetch_update(AcqRel, Acquire, charged);
    }

    /// Learns how much of a bucket is taken elsewhere, so that counting can go on here from there.
    pub(super) fn learn(&self, Claim { hold, bucket }: Claim<'_>, taken: u64, now: u64) {
        if taken > 0 {
            let moment = self.clock.moment(bucket.refill, now);
            let later = |tat| Some(moment.at + bucket.level(live(tat)?, moment).taken.max(taken));
            // An error means that the bucket was thrown out just now: little is lost with it.
            let _ = self.cell(hold, now).fetch_update(AcqRel, Acquire, later);
        }
    }

    fn cell(&self, hold: &Hold, now: u64) -> Arc<AtomicU64> {
        let mut held = hold.cell.borrow_mut();
        if let Some(cell) = held.as_ref().filter(|cell| cell.load(Acquire) != GONE) {
            return cell.clone();
        }
        let table = match hold.class {
            Class::Key => &self.keys,
            Class::Address => &self.addresses,
        };
        let is_full = |tat| tat <= self.clock.moment(Moment::refill_of(tat), now).at;
        held.insert(table.find(&hold.name, is_full)).clone()
    }
}

/// A bucket being taken from.
struct Open<'a> {
    bucket: &'a Bucket,
    cell: Arc<AtomicU64>,
    now: Moment,
}

/// `None`: a bucket is gone.
fn admit(open: &[Open<'_>]) -> Option<Tally> {
    let mut levels = Each::new();
    for Open { bucket, cell, now } in open {
        let tat = live(cell.load(Acquire))?;
        if let Some(forgiven) = bucket.forgive(tat, *now) {
            // Another worker may have done so, or taken a token, which does the same.
            let _ = cell.compare_exchange(tat, forgiven, AcqRel, Acquire);
        }
        levels.push(bucket.level(tat, *now));
    }
    // Most refusals end here, without having touched anything.
    let passes = |(open, level): (&Open<'_>, &Level)| open.bucket.take(level.taken).is_some();
    if !open.iter().zip(&levels).all(passes) {
        return Some(Tally { admitted: false, levels });
    }
    let mut after = Each::new();
    for one in open {
        match one.take() {
            Some(Ok(level)) => after.push(level),
            // Another worker was faster: give back what was taken.
            lost => {
                open.iter().take(after.len()).for_each(Open::give_back);
                let full = lost?.err()?;
                if let Some(place) = levels.get_mut(after.len()) {
                    *place = full;
                }
                return Some(Tally { admitted: false, levels });
            }
        }
    }
    Some(Tally { admitted: true, levels: after })
}

impl Open<'_> {
    /// Where the bucket stands after one token more, or where it stands if it has none; `None`: gone.
    fn take(&self) -> Option<Result<Level, Level>> {
        let Self { bucket, cell, now } = self;
        let mut tat = cell.load(Acquire);
        loop {
            let level = bucket.level(live(tat)?, *now);
            let Some(after) = bucket.take(level.taken) else { return Some(Err(level)) };
            match cell.compare_exchange_weak(tat, now.at + after, AcqRel, Acquire) {
                Ok(_) => return Some(Ok(bucket.level_of(after, now.ends_in))),
                Err(other) => tat = other,
            }
        }
    }

    fn give_back(&self) {
        if self.bucket.is_charged {
            return;
        }
        let less = |tat: u64| live(tat).map(|tat| tat.saturating_sub(self.bucket.interval));
        // An error means that the bucket is gone, and with it what was taken.
        let _ = self.cell.fetch_update(AcqRel, Acquire, less);
    }
}

fn live(tat: u64) -> Option<u64> {
    (tat != GONE).then_some(tat)
}

/// Named buckets, at most a number of them.
struct Table {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    bound: usize,
}

type Shard = HashMap<Box<str>, Arc<AtomicU64>, RandomState>;

impl Table {
    fn new(bound: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::default(), shards, bound: (bound / SHARDS).max(4) }
    }

    fn find(&self, name: &str, is_full: impl Fn(u64) -> bool) -> Arc<AtomicU64> {
        let place = self.hasher.hash_one(name) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else { return Arc::default() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = shard.get(name) {
            return cell.clone();
        }
        if shard.len() >= self.bound {
            make_room(&mut shard, self.bound, is_full);
        }
        shard.entry(name.into()).or_default().clone()
    }
}

/// Throws out what is full again, which loses nothing; under an attack also the fuller half of
/// the rest, which forgets the least.
fn make_room(shard: &mut Shard, bound: usize, is_full: impl Fn(u64) -> bool) {
    throw_out(shard, is_full);
    if shard.len() > bound / 2 {
        let mut tats: Vec<_> = shard.values().map(|cell| cell.load(Acquire)).collect();
        let middle = tats.len() / 2;
        let (_, &mut median, _) = tats.select_nth_unstable(middle);
        throw_out(shard, |tat| tat <= median);
    }
}

/// Throws out every bucket whose TAT is such.
fn throw_out(shard: &mut Shard, is_such: impl Fn(u64) -> bool) {
    let gone = |tat: u64| is_such(tat).then_some(GONE);
    shard.retain(|_, cell| cell.fetch_update(AcqRel, Acquire, gone).is_err());
}

#[cfg(test)]
mod tests {
    use std::thread;

    use fastgate::model::{Calendar, Cost, Quota, RateLimit, Tokens};
    use proptest::prelude::*;

    use super::*;

    fn bucket(per_minute: i64) -> Bucket {
        Bucket::new(Tokens::Rate(RateLimit::parse(per_minute).expect("a rate").into()), &Cost::ONE)
    }

    fn buckets() -> Buckets {
        Buckets::new(Clock::start())
    }

    fn hold(name: &str) -> Hold {
        Hold::new(Class::Key, name.into())
    }

    fn claim(hold: &Hold, per_minute: i64) -> Claim<'_> {
        Claim { hold, bucket: bucket(per_minute) }
    }

    #[test]
    fn all_buckets_give_or_none_does() {
        let buckets = buckets();
        let (wide, narrow) = (hold("wide"), hold("narrow"));
        let claims = [claim(&wide, 10), claim(&narrow, 2)];
        let admitted = (0..5).filter(|_| buckets.admit(&claims, 0).admitted).count();
        assert_eq!(admitted, 2);
        let rest = (0..20).filter(|_| buckets.admit(&claims[..1], 0).admitted).count();
        assert_eq!(rest, 8, "refusals must cost nothing");
    }

    #[test]
    fn many_workers_admit_exactly_the_limit() {
        let shared = Arc::new(buckets());
        let count = |name: &'static [&'static str]| {
            let shared = shared.clone();
            thread::spawn(move || {
                let holds: Vec<_> = name.iter().map(|name| hold(name)).collect();
                let claims: Vec<_> = holds.iter().map(|hold| claim(hold, 1000)).collect();
                (0..2000).filter(|_| shared.admit(&claims, 0).admitted).count()
            })
        };
        let workers: Vec<_> = (0..8).map(|_| count(&["hot"])).collect();
        let admitted: usize = workers.into_iter().map(|w| w.join().expect("counts")).sum();
        assert_eq!(admitted, 1000);

        // In opposite orders, so that some have to give back what they took.
        let orders: [&'static [&'static str]; 2] = [&["a", "b"], &["b", "a"]];
        let workers: Vec<_> = (0..8).map(|at| count(orders[at % 2])).collect();
        let admitted: usize = workers.into_iter().map(|w| w.join().expect("counts")).sum();
        // Giving back is not atomic with taking: a few may be refused, none too many admitted.
        assert!((990..=1000).contains(&admitted), "{admitted}");
    }

    #[test]
    fn what_was_taken_is_given_back_when_a_later_bucket_refuses() {
        let (buckets, hold) = (buckets(), hold("k"));
        // Twice the same bucket: both find it free, and the second finds it taken by the first.
        let twice = [claim(&hold, 1), claim(&hold, 1)];
        assert!(!buckets.admit(&twice, 0).admitted);
        assert!(buckets.admit(&twice[..1], 0).admitted, "the token is there again");
        assert!(!buckets.admit(&twice[..1], 0).admitted);
    }

    #[test]
    fn a_table_never_grows_past_its_bound_and_forgets_the_fullest_first() {
        let table = Table::new(SHARDS * 16);
        let is_full = |tat| tat == 0;
        let spent = table.find("spent", is_full);
        spent.store(1_000_000, std::sync::atomic::Ordering::Release);
        for name in 0..10_000 {
            let cell = table.find(&format!("address {name}"), is_full);
            cell.store(name + 1, std::sync::atomic::Ordering::Release);
        }
        let len: usize = table.shards.iter().map(|s| s.lock().expect("no panic").len()).sum();
        assert!(len <= SHARDS * 16, "{len}");
        assert!(Arc::ptr_eq(&spent, &table.find("spent", is_full)), "the emptiest bucket was kept");
    }

    #[test]
    fn a_bucket_thrown_out_is_never_counted_in_again() {
        let buckets = buckets();
        let (one, other) = (hold("k"), hold("k"));
        let claims = [&one, &other].map(|hold| [claim(hold, 5)]);
        for claims in &claims {
            assert!(buckets.admit(claims, 0).admitted);
        }
        let later = 120_000_000_000;
        for shard in &buckets.keys.shards {
            throw_out(&mut shard.lock().expect("no panic"), |tat| tat <= later);
        }
        let admitted = |claims| (0..5).filter(|_| buckets.admit(claims, later).admitted).count();
        let admitted: usize = claims.iter().map(|claims| admitted(claims)).sum();
        assert_eq!(admitted, 5, "both must find the same new bucket");
    }

    #[test]
    fn a_quota_in_use_outlives_rates_that_are_full() {
        const DAY: u64 = 86_400_000_000_000;
        let new_year = 1_798_761_600_000_000_000;
        let buckets = Buckets::new(Clock::at(new_year));
        let used = |calendar, name: &str, now| {
            let quota = Quota::parse(10, calendar).expect("a quota");
            let hold = hold(name);
            let bucket = Bucket::new(Tokens::Quota(quota), &Cost::ONE);
            let tally = buckets.admit(&[Claim { hold: &hold, bucket }], now);
            tally.levels[0].taken - 1
        };
        let later = 30 * DAY + DAY / 2;
        assert_eq!((used(Calendar::Month, "month", 1), used(Calendar::Day, "day", later)), (0, 0));
        for shard in &buckets.keys.shards {
            let is_full = |tat| tat <= buckets.clock.moment(Moment::refill_of(tat), later).at;
            throw_out(&mut shard.lock().expect("no panic"), is_full);
        }
        assert_eq!(used(Calendar::Month, "month", later), 1);
        assert_eq!(used(Calendar::Day, "day", later), 1);
        let len = || -> usize {
            buckets.keys.shards.iter().map(|s| s.lock().expect("no panic").len()).sum()
        };
        assert_eq!(len(), 2);
        for shard in &buckets.keys.shards {
            let is_full = |tat| tat <= buckets.clock.moment(Moment::refill_of(tat), later + DAY).at;
            throw_out(&mut shard.lock().expect("no panic"), is_full);
        }
        assert_eq!(len(), 0, "day and month are over");
    }

    #[test]
    fn counting_goes_on_from_what_was_learned() {
        let (buckets, hold) = (buckets(), hold("k"));
        let claims = [claim(&hold, 60)];
        buckets.learn(claims[0], 58_000_000_000, 1);
        let admitted = (0..5).filter(|_| buckets.admit(&claims, 1).admitted).count();
        assert_eq!(admitted, 2);
        buckets.learn(claims[0], 30_000_000_000, 1);
        assert!(!buckets.admit(&claims, 1).admitted, "what is known already is not forgotten");
    }

    #[test]
    fn a_quota_is_counted_to_the_last_one() {
        let new_year = 1_798_761_600_000_000_000;
        let (buckets, hold) = (Buckets::new(Clock::at(new_year)), hold("k"));
        let quota = Quota::parse(1_000, Calendar::Month).expect("a quota");
        let claims = [Claim { hold: &hold, bucket: Bucket::new(Tokens::Quota(quota), &Cost::ONE) }];
        buckets.learn(claims[0], 990, 1);
        // Of a rate, most would be there again.
        let later = [1, 3_600_000_000_000];
        let admitted =
            later.map(|at| (0..20).filter(|_| buckets.admit(&claims, at).admitted).count());
        assert_eq!(admitted, [10, 0]);
        let [level] = buckets.admit(&claims, 1).levels[..] else { panic!("one bucket") };
        assert_eq!(level.resets_in, 31 * 86_400_000_000_000 - 1);
    }

    fn rates() -> impl Strategy<Value = Bucket> {
        let interval = prop_oneof![1..1_000_u64, 1..3_600_000_000_000_u64];
        (interval, 1..20_u64, any::<bool>()).prop_map(|(interval, tokens, is_charged)| Bucket {
            is_charged,
            ..Bucket::steady(interval, tokens)
        })
    }

    proptest! {
        /// Whatever the limit was when tokens were taken, and whoever else comes meanwhile.
        #[test]
        fn whoever_waits_as_told_is_admitted(
            changes in prop::collection::vec((rates(), 0..60_u64, 0..4_u64), 1..6),
        ) {
            let (buckets, hold, mut now) = (buckets(), hold("k"), 1);
            for (bucket, charged, others) in changes {
                let claim = Claim { hold: &hold, bucket };
                if bucket.is_charged {
                    buckets.charge(claim, charged, now);
                }
                let mut requests = (0..30).map(|_| buckets.admit(&[claim], now));
                let Some(refused) = requests.find(|tally| !tally.admitted) else { continue };
                let wait = bucket.wait_nanos(refused.levels[0]);
                for other in 0..others {
                    let early = buckets.admit(&[claim], now + wait * other / others);
                    prop_assert!(!early.admitted, "there is none until then");
                }
                now += wait;
                prop_assert!(buckets.admit(&[claim], now).admitted, "{bucket:?} after {wait} ns");
            }
        }
    }
}
