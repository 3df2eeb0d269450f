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

use super::{gcra::Bucket, policy::Each};

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

/// What became of some claims: how far ahead of now each bucket is full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    /// Whether every bucket gave a token; otherwise none did.
    pub(super) admitted: bool,
    /// In the order of the claims.
    pub(super) ahead: Each<u64>,
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
    pub(super) fn new() -> Self {
        Self { keys: Table::new(KEY_BUCKETS), addresses: Table::new(ADDRESS_BUCKETS) }
    }

    /// Takes a token from every bucket, or none.
    pub(super) fn admit(&self, claims: &[Claim<'_>], now: u64) -> Tally {
        loop {
            let cells: Each<_> = claims.iter().map(|claim| self.cell(claim.hold, now)).collect();
            if let Some(tally) = admit(claims, &cells, now) {
                return tally;
            }
            // A bucket was thrown out just now: look for the one in its place.
        }
    }

    /// Learns when a bucket will be full elsewhere, so that counting can go on here from there.
    pub(super) fn learn(&self, hold: &Hold, full_at: u64, now: u64) {
        if full_at > now {
            let later = |tat: u64| live(tat).map(|tat| tat.max(full_at));
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
        held.insert(table.find(&hold.name, now)).clone()
    }
}

/// `None`: a bucket is gone.
fn admit(claims: &[Claim<'_>], cells: &[Arc<AtomicU64>], now: u64) -> Option<Tally> {
    let mut ahead = Each::new();
    for (claim, cell) in claims.iter().zip(cells) {
        ahead.push(claim.bucket.ahead(live(cell.load(Acquire))?, now));
    }
    // Most refusals end here, without having touched anything.
    let passes = |(claim, ahead): (&Claim<'_>, &u64)| claim.bucket.take(*ahead).is_some();
    if !claims.iter().zip(&ahead).all(passes) {
        return Some(Tally { admitted: false, ahead });
    }
    let mut taken = Each::new();
    for (claim, cell) in claims.iter().zip(cells) {
        match take(claim.bucket, cell, now) {
            Some(Ok(after)) => taken.push(after),
            // Another worker was faster: give back what was taken.
            lost => {
                for (claim, cell) in claims.iter().zip(cells).take(taken.len()) {
                    give_back(claim.bucket, cell);
                }
                let full = lost?.err()?;
                if let Some(place) = ahead.get_mut(taken.len()) {
                    *place = full;
                }
                return Some(Tally { admitted: false, ahead });
            }
        }
    }
    Some(Tally { admitted: true, ahead: taken })
}

/// Where the bucket stands after one token more, or where it stands if it has none; `None`: gone.
fn take(bucket: Bucket, cell: &AtomicU64, now: u64) -> Option<Result<u64, u64>> {
    let mut tat = cell.load(Acquire);
    loop {
        let ahead = bucket.ahead(live(tat)?, now);
        let Some(after) = bucket.take(ahead) else { return Some(Err(ahead)) };
        match cell.compare_exchange_weak(tat, now + after, AcqRel, Acquire) {
            Ok(_) => return Some(Ok(after)),
            Err(other) => tat = other,
        }
    }
}

fn give_back(bucket: Bucket, cell: &AtomicU64) {
    let less = |tat: u64| live(tat).map(|tat| tat.saturating_sub(bucket.interval));
    // An error means that the bucket is gone, and with it what was taken.
    let _ = cell.fetch_update(AcqRel, Acquire, less);
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

    fn find(&self, name: &str, now: u64) -> Arc<AtomicU64> {
        let place = self.hasher.hash_one(name) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else { return Arc::default() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = shard.get(name) {
            return cell.clone();
        }
        if shard.len() >= self.bound {
            make_room(&mut shard, self.bound, now);
        }
        shard.entry(name.into()).or_default().clone()
    }
}

/// Throws out what is full again, which loses nothing; under an attack also the fuller half of
/// the rest, which forgets the least.
fn make_room(shard: &mut Shard, bound: usize, now: u64) {
    throw_out(shard, now);
    if shard.len() > bound / 2 {
        let mut tats: Vec<_> = shard.values().map(|cell| cell.load(Acquire)).collect();
        let middle = tats.len() / 2;
        let (_, median, _) = tats.select_nth_unstable(middle);
        throw_out(shard, *median);
    }
}

/// Throws out every bucket that is full at `until`.
fn throw_out(shard: &mut Shard, until: u64) {
    let full = |tat: u64| (tat <= until).then_some(GONE);
    shard.retain(|_, cell| cell.fetch_update(AcqRel, Acquire, full).is_err());
}

#[cfg(test)]
mod tests {
    use std::thread;

    use fastgate::model::RateLimit;

    use super::*;

    fn bucket(per_minute: i64) -> Bucket {
        Bucket::new(RateLimit::parse(per_minute).expect("a rate"))
    }

    fn hold(name: &str) -> Hold {
        Hold::new(Class::Key, name.into())
    }

    fn claim(hold: &Hold, per_minute: i64) -> Claim<'_> {
        Claim { hold, bucket: bucket(per_minute) }
    }

    #[test]
    fn all_buckets_give_or_none_does() {
        let buckets = Buckets::new();
        let (wide, narrow) = (hold("wide"), hold("narrow"));
        let claims = [claim(&wide, 10), claim(&narrow, 2)];
        let admitted = (0..5).filter(|_| buckets.admit(&claims, 0).admitted).count();
        assert_eq!(admitted, 2);
        let rest = (0..20).filter(|_| buckets.admit(&claims[..1], 0).admitted).count();
        assert_eq!(rest, 8, "refusals must cost nothing");
    }

    #[test]
    fn many_workers_admit_exactly_the_limit() {
        let shared = Arc::new(Buckets::new());
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
        let (buckets, hold) = (Buckets::new(), hold("k"));
        // Twice the same bucket: both find it free, and the second finds it taken by the first.
        let twice = [claim(&hold, 1), claim(&hold, 1)];
        assert!(!buckets.admit(&twice, 0).admitted);
        assert!(buckets.admit(&twice[..1], 0).admitted, "the token is there again");
        assert!(!buckets.admit(&twice[..1], 0).admitted);
    }

    #[test]
    fn a_table_never_grows_past_its_bound_and_forgets_the_fullest_first() {
        let table = Table::new(SHARDS * 16);
        let spent = table.find("spent", 0);
        spent.store(1_000_000, std::sync::atomic::Ordering::Release);
        for name in 0..10_000 {
            let cell = table.find(&format!("address {name}"), 0);
            cell.store(name + 1, std::sync::atomic::Ordering::Release);
        }
        let len: usize = table.shards.iter().map(|s| s.lock().expect("no panic").len()).sum();
        assert!(len <= SHARDS * 16, "{len}");
        assert!(Arc::ptr_eq(&spent, &table.find("spent", 0)), "the emptiest bucket was kept");
    }

    #[test]
    fn a_bucket_thrown_out_is_never_counted_in_again() {
        let buckets = Buckets::new();
        let (one, other) = (hold("k"), hold("k"));
        let claims = [&one, &other].map(|hold| [claim(hold, 5)]);
        for claims in &claims {
            assert!(buckets.admit(claims, 0).admitted);
        }
        let later = 120_000_000_000;
        for shard in &buckets.keys.shards {
            throw_out(&mut shard.lock().expect("no panic"), later);
        }
        let admitted = |claims| (0..5).filter(|_| buckets.admit(claims, later).admitted).count();
        let admitted: usize = claims.iter().map(|claims| admitted(claims)).sum();
        assert_eq!(admitted, 5, "both must find the same new bucket");
    }

    #[test]
    fn counting_goes_on_from_what_was_learned() {
        let (buckets, hold) = (Buckets::new(), hold("k"));
        let claims = [claim(&hold, 60)];
        buckets.learn(&hold, 58_000_000_000, 1);
        let admitted = (0..5).filter(|_| buckets.admit(&claims, 1).admitted).count();
        assert_eq!(admitted, 2);
        buckets.learn(&hold, 30_000_000_000, 1);
        assert!(!buckets.admit(&claims, 1).admitted, "what is known already is not forgotten");
    }
}
