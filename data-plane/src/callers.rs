//! Callers a worker has met, found by the secret they sent: so that it need not be hashed, nor the
//! key it opens be looked for, with every request.
//!
//! The table is by a keyed 128-bit fingerprint of what was sent, whose key is random for every
//! process: what it holds opens nothing, here or elsewhere, and nobody can make two secrets fall
//! together. What a secret opens is known as of one snapshot and asked anew in the next, so nothing
//! here outlives a revocation.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU64,
    ptr,
    rc::Rc,
};

use fastgate::{
    model::{self, Route},
    secret::SecretHash,
};
use hashbrown::HashTable;

use crate::{
    keys::KeyEntry,
    limits::{AtHand, Subject},
};

/// The most callers known at once; about two megabytes.
const BOUND: usize = 1 << 14;

/// The callers of one worker.
#[derive(Default)]
pub(crate) struct Callers {
    // SipHash, each with a key of its own.
    halves: [RandomState; 2],
    // Borrowed for single calls below.
    met: RefCell<HashTable<(Fingerprint, Rc<Caller>)>>,
}

/// Stands for a secret within this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint(u64, u64);

/// Whoever sends one secret.
pub(crate) struct Caller {
    /// Of the secret.
    pub(crate) hash: SecretHash,
    /// What it opens.
    pub(crate) entry: KeyEntry,
    /// The snapshot that says so, by its generation.
    pub(crate) generation: u64,
    /// Who the key was issued to.
    pub(crate) source_path: Box<str>,
    /// Since when the limiter does: see [`Subject::ResetKey`].
    limits_reset_at: Option<NonZeroU64>,
    /// Where the limiter counts the key's requests.
    pub(crate) at_hand: AtHand,
    /// The route of this snapshot that was last found to let the key pass.
    allowed_on: Cell<*const Route>,
}

impl Caller {
    /// A caller as a snapshot has it.
    pub(crate) fn new(hash: SecretHash, entry: &KeyEntry, generation: u64) -> Rc<Self> {
        Rc::new(Self {
            hash,
            entry: entry.clone(),
            generation,
            source_path: entry.key.source_path().into(),
            limits_reset_at: entry.limits_reset_at(),
            at_hand: AtHand::default(),
            allowed_on: Cell::new(ptr::null()),
        })
    }

    /// Whose requests limits count where they count them by key.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::of_key(self.entry.key.key_id(), self.limits_reset_at)
    }

    /// Whether the key holds all that a route of the caller's snapshot asks for.
    pub(crate) fn may_use(&self, route: &Route) -> bool {
        // A route stays where it is for as long as its snapshot is there.
        if ptr::eq(self.allowed_on.get(), route) {
            return true;
        }
        let may = model::allows(self.entry.key.permissions(), &route.required_permissions);
        if may {
            self.allowed_on.set(route);
        }
        may
    }
}

impl Callers {
    /// The fingerprint of a secret as it was sent.
    pub(crate) fn fingerprint(&self, sent: &[u8]) -> Fingerprint {
        let [one, other] = &self.halves;
        Fingerprint(one.hash_one(sent), other.hash_one(sent))
    }

    /// Who sent the secret with this fingerprint, if they are known.
    pub(crate) fn find(&self, fingerprint: Fingerprint) -> Option<Rc<Caller>> {
        let met = self.met.borrow();
        let (_, caller) = met.find(fingerprint.0, |(print, _)| *print == fingerprint)?;
        Some(caller.clone())
    }

    /// Remembers a caller. One whose secret opens nothing would only push others out.
    pub(crate) fn learn(&self, fingerprint: Fingerprint, caller: Rc<Caller>) {
        let mut met = self.met.borrow_mut();
        if let Some((_, known)) = met.find_mut(fingerprint.0, |(print, _)| *print == fingerprint) {
            *known = caller;
            return;
        }
        if met.len() >= BOUND {
            // Every other one goes, and they lie at random. Were it all of them, more callers than fit
            // that come in turn would never be known.
            let mut stays = true;
            met.retain(|_| {
                stays = !stays;
                stays
            });
        }
        met.insert_unique(fingerprint.0, (fingerprint, caller), |(print, _)| print.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::bench::guarded;

    #[test]
    fn callers_are_known_once_they_were_met_and_in_bounded_number() {
        let (compiler, secret) = guarded();
        let snapshot = compiler.snapshot(1, 1);
        let hash = secret.hash();
        let entry = snapshot.keys.get(&hash).expect("a key");
        let caller = |generation| Caller::new(hash, entry, generation);
        let callers = Callers::default();
        let generation =
            |sent: &[u8]| callers.find(callers.fingerprint(sent)).map(|caller| caller.generation);
        assert_eq!(generation(b"fg_one"), None);
        callers.learn(callers.fingerprint(b"fg_one"), caller(1));
        assert_eq!((generation(b"fg_one"), generation(b"fg_two")), (Some(1), None));
        callers.learn(callers.fingerprint(b"fg_one"), caller(2));
        assert_eq!((generation(b"fg_one"), callers.met.borrow().len()), (Some(2), 1));
        for n in 0..2 * BOUND {
            callers.learn(callers.fingerprint(&n.to_be_bytes()), caller(1));
        }
        assert!((BOUND / 2..=BOUND).contains(&callers.met.borrow().len()));
        let in_turn = |n: usize| {
            let fingerprint = callers.fingerprint(&n.to_be_bytes());
            let is_known = callers.find(fingerprint).is_some();
            callers.learn(fingerprint, caller(1));
            is_known
        };
        let known = (0..20 * BOUND).filter(|n| in_turn(n % (BOUND + BOUND / 4))).count();
        assert!(known > 6 * BOUND, "{known} of {} came and were known", 20 * BOUND);
    }
}
