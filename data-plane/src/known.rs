//! Secrets a worker has seen open something, so that it need not hash each of them every time.
//!
//! The table says which SHA-256 a sent secret has, by a keyed 128-bit fingerprint whose key is
//! random for every process: what it holds opens nothing, here or elsewhere, and nobody can make
//! two secrets fall together. Whether that hash opens anything is for the snapshot to say, as
//! always, so nothing here outlives a revocation.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use fastgate::secret::SecretHash;

/// The most secrets known at once; about a megabyte.
const BOUND: usize = 1 << 14;

/// What one worker knows.
#[derive(Default)]
pub(crate) struct KnownSecrets {
    // SipHash, each with a key of its own.
    halves: [RandomState; 2],
    // Borrowed for single calls below.
    hashes: RefCell<HashMap<Fingerprint, SecretHash, foldhash::fast::RandomState>>,
}

/// Stands for a secret within this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fingerprint(u64, u64);

impl KnownSecrets {
    /// The fingerprint of a secret as it was sent.
    pub(crate) fn fingerprint(&self, sent: &[u8]) -> Fingerprint {
        let [one, other] = &self.halves;
        Fingerprint(one.hash_one(sent), other.hash_one(sent))
    }

    /// The hash of the secret with this fingerprint, if it is known.
    pub(crate) fn hash(&self, fingerprint: Fingerprint) -> Option<SecretHash> {
        self.hashes.borrow().get(&fingerprint).copied()
    }

    /// Remembers a secret that opened something. Others would only push those out.
    pub(crate) fn learn(&self, fingerprint: Fingerprint, hash: SecretHash) {
        let mut hashes = self.hashes.borrow_mut();
        if hashes.len() >= BOUND {
            hashes.clear();
        }
        hashes.insert(fingerprint, hash);
    }
}

#[cfg(test)]
mod tests {
    use fastgate::secret::{Kind, Secret};

    use super::*;

    #[test]
    fn secrets_are_known_once_learnt_and_in_bounded_number() {
        let known = KnownSecrets::default();
        let hash = Secret::generate(Kind::ApiKey).expect("random bytes").hash();
        let print = known.fingerprint(b"fg_one");
        assert_eq!(known.hash(print), None);
        known.learn(print, hash);
        assert_eq!(known.hash(known.fingerprint(b"fg_one")), Some(hash));
        assert_eq!(known.hash(known.fingerprint(b"fg_two")), None);
        for n in 0..2 * BOUND {
            known.learn(known.fingerprint(&n.to_be_bytes()), hash);
        }
        assert!(known.hashes.borrow().len() <= BOUND);
    }
}
