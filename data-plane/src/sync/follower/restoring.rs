//! What a node begins with: the last good state on disk.

use tokio::time::Instant;

use super::{CONFIG, Follower, list};
use crate::sync::{
    Holding, Namespace,
    replica::barred,
    state_dir::{Generation, StateDir},
};

impl Follower {
    /// Reads what is kept of a namespace and takes the best of it into use. Whether that is the
    /// newest.
    pub(super) fn restore_from(&mut self, dir: &StateDir, ns: Namespace) -> bool {
        let newest = dir.load(ns, Generation::Newest);
        // Read only when needed: two states of a million keys are twice the memory.
        let previous = || dir.load(ns, Generation::Previous);
        if let (CONFIG, Some(bad)) = (ns, self.guard.condemned().cloned()) {
            // Barring what there is nothing to replace with would only make an outage certain.
            let condemns_all = newest.as_ref().is_some_and(|state| state.position() == bad)
                && previous().is_none_or(|state| state.position() == bad);
            if !condemns_all {
                let revision = bad.revision;
                tracing::error!(revision, "this config did harm twice: it is put aside");
                self.replica.bar(Some(bad));
                let why = barred(revision);
                self.progress.set_refused_config(Some(format!("revision {revision}: {why}")));
            }
        }
        if let Some(state) = newest
            && self.take(ns, state)
        {
            return true;
        }
        if let Some(state) = previous() {
            let (namespace, revision) = (ns.name(), state.revision);
            if self.take(ns, state) {
                tracing::warn!(
                    namespace,
                    revision,
                    "the newest state is missing or no good: until a control plane is reached, what was \
                     changed last is undone, revocations too"
                );
            }
        }
        false
    }

    /// Takes a saved state into use; false when it was refused.
    pub(super) fn take(&mut self, ns: Namespace, state: Holding) -> bool {
        let (revision, entities) = (state.revision, state.len());
        if ns == CONFIG {
            self.guard.attempt(state.position(), Instant::now());
        }
        match self.replica.restore(ns, state) {
            Ok(()) => {
                if ns == CONFIG {
                    self.health.turn(revision);
                }
                tracing::info!(namespace = ns.name(), revision, entities, "restored from disk");
                self.progress.set_held(ns, revision);
                true
            }
            Err(nack) => {
                let why = list(&nack);
                tracing::error!(
                    namespace = ns.name(),
                    revision,
                    "a saved state is not used: {why}"
                );
                false
            }
        }
    }
}
