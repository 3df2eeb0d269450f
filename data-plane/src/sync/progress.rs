//! How far the node has come: what `/ready` and `/metrics` say about the config stream.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::Namespace;

/// A shared view: written by the follower, read by the ops port.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Inner>);

#[derive(Default)]
struct Inner {
    connected: AtomicBool,
    keys: Side,
    config: Side,
    quarantined: AtomicU64,
    trouble: Mutex<Option<String>>,
    /// What is wrong with the newest config, while an older one is in force.
    refused: Mutex<Option<String>>,
}

/// One namespace.
#[derive(Default)]
struct Side {
    held: AtomicBool,
    revision: AtomicU64,
    head: AtomicU64,
    snapshots: AtomicU64,
    deltas: AtomicU64,
    nacks: AtomicU64,
    /// Whether what is held can't be written to the disk.
    unsaved: AtomicBool,
}

/// What one namespace's counters stand at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// The revision in force; 0 before the first.
    pub(crate) revision: u64,
    /// The last committed revision, as far as the control plane said.
    pub(crate) head: u64,
    /// Snapshots received over the stream and taken into use.
    pub(crate) snapshots: u64,
    /// Deltas taken into use.
    pub(crate) deltas: u64,
    /// Revisions refused.
    pub(crate) nacks: u64,
}

impl Progress {
    /// Whether a control plane is being followed.
    pub(crate) fn connected(&self) -> bool {
        self.0.connected.load(Relaxed)
    }

    /// The counters of a namespace.
    pub(crate) fn counts(&self, ns: Namespace) -> Counts {
        let side = self.side(ns);
        Counts {
            revision: side.revision.load(Relaxed),
            head: side.head.load(Relaxed),
            snapshots: side.snapshots.load(Relaxed),
            deltas: side.deltas.load(Relaxed),
            nacks: side.nacks.load(Relaxed),
        }
    }

    /// Keys denied because their record is bad.
    pub(crate) fn quarantined(&self) -> u64 {
        self.0.quarantined.load(Relaxed)
    }

    /// Why there is nothing to serve from yet; `None` once there is.
    pub(crate) fn waiting_for(&self) -> Option<String> {
        let missing: Vec<_> = Namespace::ALL
            .into_iter()
            .filter(|ns| !self.side(*ns).held.load(Relaxed))
            .map(Namespace::name)
            .collect();
        if missing.is_empty() {
            return None;
        }
        let trouble = self.trouble().clone();
        let trouble = trouble.unwrap_or_else(|| "waiting for a control plane to send it".into());
        Some(format!("no {} yet: {trouble}", missing.join(" and no ")))
    }

    /// What is wrong with the newest config, while an older one is in force.
    pub(crate) fn refused_config(&self) -> Option<String> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_refused_config(&self, why: Option<String>) {
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Whether a restart would begin with something older than is held.
    pub(crate) fn has_unsaved(&self) -> bool {
        Namespace::ALL.into_iter().any(|ns| self.side(ns).unsaved.load(Relaxed))
    }

    pub(super) fn set_unsaved(&self, ns: Namespace, unsaved: bool) {
        self.side(ns).unsaved.store(unsaved, Relaxed);
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.0.connected.store(connected, Relaxed);
        if connected {
            *self.trouble() = None;
        }
    }

    /// Notes what stands in the way.
    pub(super) fn set_trouble(&self, trouble: String) {
        *self.trouble() = Some(trouble);
    }

    pub(super) fn set_head(&self, ns: Namespace, revision: u64) {
        self.side(ns).head.store(revision, Relaxed);
    }

    pub(super) fn set_quarantined(&self, keys: usize) {
        self.0.quarantined.store(keys as u64, Relaxed);
    }

    /// Notes the revision now in force.
    pub(super) fn set_held(&self, ns: Namespace, revision: u64) {
        let side = self.side(ns);
        side.revision.store(revision, Relaxed);
        side.held.store(true, Relaxed);
    }

    pub(super) fn count_applied(&self, ns: Namespace, snapshot: bool) {
        let side = self.side(ns);
        let counter = if snapshot { &side.snapshots } else { &side.deltas };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn count_nack(&self, ns: Namespace) {
        self.side(ns).nacks.fetch_add(1, Relaxed);
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn side(&self, ns: Namespace) -> &Side {
        match ns {
            Namespace::Keys => &self.0.keys,
            Namespace::Config => &self.0.config,
        }
    }
}
