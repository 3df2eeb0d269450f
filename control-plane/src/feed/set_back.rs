//! A database that went back: a standby took over that had not got everything, or a backup was restored.
//!
//! Nodes follow it, for it is the truth from then on. But what was committed last is lost, and a key that
//! was revoked then is valid again: so it is said aloud, and remembered for whoever asks.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use fastgate::{admin::v1, model::Id};

use crate::domain::Namespace;

/// The most that are remembered.
const REMEMBERED: usize = 100;

/// What was lost, newest last.
#[derive(Default)]
pub(super) struct SetBacks(Mutex<Vec<SetBack>>);

struct SetBack {
    environment: Id,
    ns: Namespace,
    /// What somebody held.
    from: u64,
    /// What there is; the same, where it came to that number another way.
    to: u64,
    at: SystemTime,
}

impl SetBacks {
    /// Notes that a namespace went back; whether that is news.
    pub(super) fn note(&self, environment: &Id, ns: Namespace, from: u64, to: u64) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each node that held more says so when it comes.
        let is_it = |one: &SetBack| one.environment == *environment && one.ns == ns && one.to == to;
        if noted.iter().any(|one| is_it(one) && one.from >= from) {
            return false;
        }
        noted.retain(|one| !is_it(one));
        if noted.len() >= REMEMBERED {
            noted.remove(0);
        }
        let (environment, at) = (environment.clone(), SystemTime::now());
        tracing::error!(
            %environment, ?ns, from, to,
            "the database went back to an earlier revision: what was committed since is lost"
        );
        noted.push(SetBack { environment, ns, from, to, at });
        true
    }

    /// Those of an environment.
    pub(super) fn list(&self, environment: &Id) -> Vec<v1::SetBack> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = noted.iter().filter(|one| one.environment == *environment);
        let told = own.map(|one| v1::SetBack {
            namespace: match one.ns {
                Namespace::Keys => "keys".into(),
                Namespace::Config => "config".into(),
            },
            from: one.from,
            to: one.to,
            timestamp: Some(one.at.into()),
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_loss_is_noted_once_and_at_its_largest() {
        let set_backs = SetBacks::default();
        let environment = Id::default_environment();
        let note = |from, to| set_backs.note(&environment, Namespace::Keys, from, to);
        assert_eq!([note(10, 8), note(10, 8), note(9, 8), note(12, 8)], [true, false, false, true]);
        assert!(note(9, 7));
        let listed = set_backs.list(&environment);
        let listed: Vec<_> = listed.iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(listed, [(12, 8), (9, 7)]);
    }
}
