//! A control plane that has lost its database, while another one may have it still.
//!
//! Nodes would hear from this one that all is well, and serve keys that were revoked elsewhere. So each is sent
//! on its way now and then, to try its next address. Who comes back, or has no other, is served all the same:
//! what is known here is better than nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fastgate::model::Id;

/// How long the database may be away before nodes are sent elsewhere. They are asked to stay for as long, too:
/// some come from where it is away as well.
const LENIENCE: Duration = Duration::from_secs(5);

/// How often one node is sent away at most.
const EVERY: Duration = Duration::from_secs(30);

/// How long the database has been away, and who was sent elsewhere since.
pub(super) struct Absence(Mutex<State>);

struct State {
    /// When the database answered last.
    heard: Instant,
    /// When nodes were sent away, by environment and id.
    sent: HashMap<(Id, String), Instant>,
}

impl Absence {
    /// The database answered.
    pub(super) fn end(&self, now: Instant) {
        let mut state = self.state();
        state.heard = now;
        state.sent.clear();
    }

    /// Whether a node that has been here since then is to go elsewhere now, which is noted.
    pub(super) fn sends_away(
        &self,
        environment: &Id,
        node_id: &str,
        since: Instant,
        now: Instant,
    ) -> bool {
        let mut state = self.state();
        let is_long = |then: Instant, long| now.saturating_duration_since(then) > long;
        if !is_long(state.heard, LENIENCE) || !is_long(since, LENIENCE) {
            return false;
        }
        state.sent.retain(|_, sent| !is_long(*sent, EVERY));
        let name = (environment.clone(), node_id.to_owned());
        let is_first = !state.sent.contains_key(&name);
        if is_first {
            state.sent.insert(name, now);
        }
        is_first
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Absence {
    fn default() -> Self {
        Self(Mutex::new(State { heard: Instant::now(), sent: HashMap::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_sent_away_once_in_a_while_until_the_database_is_back() {
        let absence = Absence::default();
        let begun = Instant::now();
        let environment = Id::default_environment();
        absence.end(begun);
        let sends = |node_id, since, now| {
            let at = |seconds| begun + Duration::from_secs(seconds);
            absence.sends_away(&environment, node_id, at(since), at(now))
        };
        assert!(!sends("n1", 0, 5), "it may be a moment");
        assert!(!sends("n1", 2, 7), "it came a moment ago");
        assert!(sends("n1", 0, 6));
        assert!(sends("n2", 0, 6), "each by itself");
        assert!(!sends("n1", 7, 36), "it was here before");
        assert!(sends("n1", 7, 37));
        absence.end(begun + Duration::from_secs(38));
        assert!(!sends("n1", 7, 43), "it was back");
        assert!(sends("n1", 7, 44));
    }
}
