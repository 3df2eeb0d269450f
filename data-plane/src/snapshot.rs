//! What a node serves from: one immutable snapshot, swapped whole.
//!
//! A request loads the snapshot once and sees nothing else, so key, route and upstream always
//! come from the same moment. Nothing here changes after it was built; what changes while
//! requests run (counters, pools) is kept by name outside and outlives every swap.

use std::{
    ops::Deref,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwapOption, Cache};
use fastgate::model::{Id, RateLimit};

use crate::{
    keys::{KeyTable, Plans},
    route::{CompiledRoute, RouteIndex},
    target::{TargetSet, Upstreams},
};

/// The state one request sees.
pub(crate) struct Snapshot {
    /// The environment it belongs to.
    pub(crate) environment: Id,
    /// Every live secret with the key it opens.
    pub(crate) keys: KeyTable,
    /// Which request goes to which route.
    pub(crate) routes: RouteIndex,
    /// The upstreams routes refer to; the compiler sees to it that none is missing.
    pub(crate) upstreams: Upstreams,
    /// The limits keys may refer to.
    pub(crate) plans: Plans,
    /// For keys without a limit of their own or of a plan; `None`: no limit.
    pub(crate) default_rate_limit: Option<RateLimit>,
    /// The revision of the keys in it.
    pub(crate) keys_revision: u64,
    /// The revision of everything else in it.
    pub(crate) config_revision: u64,
}

impl Snapshot {
    /// Where the requests of a route go.
    pub(crate) fn targets<'a>(&'a self, route: &'a CompiledRoute) -> Option<&'a Arc<TargetSet>> {
        route.targets(&self.upstreams)
    }
}

/// The place the current snapshot stands in: written by the sync task, read by every worker.
#[derive(Clone, Default)]
pub(crate) struct SnapshotCell {
    current: Arc<ArcSwapOption<Snapshot>>,
    /// Replaced ones. A worker that was the last to let go of a million keys would stand still
    /// while they are freed, so none ever is.
    replaced: Arc<Mutex<Vec<Arc<Snapshot>>>>,
}

impl SnapshotCell {
    /// Puts a snapshot in force; requests under way keep the one they began with.
    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        let old = self.current.swap(Some(snapshot));
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).extend(old);
        self.tidy();
    }

    /// Frees the snapshots that no request and no worker holds any more.
    pub(crate) fn tidy(&self) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can get hold of one that is not in place any more.
        replaced.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// The snapshot in force; `None` until the first is in.
    pub(crate) fn load(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// A reader for one thread, whose loads cost one relaxed read while nothing changed.
    pub(crate) fn reader(&self) -> SnapshotReader {
        SnapshotReader { cache: Cache::new(self.current.clone()), held: None }
    }
}

/// A snapshot as the requests of one thread hold it.
pub(crate) type InUse = Rc<Loaded>;

/// A snapshot one thread has loaded.
pub(crate) struct Loaded {
    snapshot: Arc<Snapshot>,
    /// How many this thread had loaded before: tells them apart, as revisions of two epochs don't.
    pub(crate) generation: u64,
}

impl Deref for Loaded {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// One thread's view of a [`SnapshotCell`].
pub(crate) struct SnapshotReader {
    cache: Cache<Arc<ArcSwapOption<Snapshot>>, Option<Arc<Snapshot>>>,
    /// What was loaded last. Requests count their use of it here: one count for all threads would
    /// be passed from core to core with every request.
    held: Option<InUse>,
}

impl SnapshotReader {
    /// The snapshot in force; `None` until the first is in.
    pub(crate) fn load(&mut self) -> Option<InUse> {
        let in_force = self.cache.load().as_ref()?;
        let held = self.held.as_ref();
        if held.is_none_or(|held| !Arc::ptr_eq(&held.snapshot, in_force)) {
            let generation = held.map_or(0, |held| held.generation + 1);
            self.held = Some(Rc::new(Loaded { snapshot: in_force.clone(), generation }));
        }
        self.held.clone()
    }

    /// The revision of the config that was loaded last; 0 before the first.
    pub(crate) fn config_revision(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.config_revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Compiler;

    #[test]
    fn what_readers_let_go_of_is_freed_by_the_writer() {
        let compiler = Compiler::new(Id::default_environment());
        let cell = SnapshotCell::default();
        let mut reader = cell.reader();
        let first = compiler.snapshot(1, 1);
        let is_there = {
            let first = Arc::downgrade(&first);
            move || first.strong_count() > 0
        };
        cell.store(first);
        let of_a_request = reader.load();
        cell.store(compiler.snapshot(2, 2));
        assert!(reader.load().is_some_and(|snapshot| snapshot.keys_revision == 2));
        cell.tidy();
        assert!(is_there(), "a request holds it");
        drop(of_a_request);
        assert!(is_there(), "whoever lets go must not be the one who frees it");
        cell.tidy();
        assert!(!is_there());
    }
}
