//! What a node serves from: one immutable snapshot, swapped whole.
//!
//! A request loads the snapshot once and sees nothing else, so key, route and upstream always
//! come from the same moment. Nothing here changes after it was built; what changes while
//! requests run (counters, pools) is kept by name outside and outlives every swap.

use std::{rc::Rc, sync::Arc, time::SystemTime};

use arc_swap::{ArcSwapOption, Cache};
use fastgate::{
    model::{Id, Key, RateLimit},
    secret::SecretHash,
};
use http::HeaderValue;

use crate::{
    persistent::Persistent,
    route::{CompiledRoute, RouteIndex},
    target::{TargetSet, Upstreams},
};

/// All live secrets. Persistent, so that a changed key costs the same however many there are.
pub(crate) type KeyTable = Persistent<SecretHash, Arc<KeyEntry>>;

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
    /// For keys without a limit of their own; `None`: no limit.
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

/// One live secret and the key it opens.
pub(crate) struct KeyEntry {
    /// The key, shared by its secrets.
    pub(crate) key: Arc<Key>,
    /// Which secret of the key this is.
    pub(crate) version: u32,
    /// The secret is refused from this moment on.
    pub(crate) expires_at: Option<SystemTime>,
    /// The key's source path, ready to be sent upstream.
    pub(crate) source_path: HeaderValue,
}

/// The place the current snapshot stands in: written by the sync task, read by every worker.
#[derive(Clone, Default)]
pub(crate) struct SnapshotCell(Arc<ArcSwapOption<Snapshot>>);

impl SnapshotCell {
    /// Puts a snapshot in force; requests under way keep the one they began with.
    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        self.0.store(Some(snapshot));
    }

    /// The snapshot in force; `None` until the first is in.
    pub(crate) fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.load_full()
    }

    /// A reader for one thread, whose loads cost one relaxed read while nothing changed.
    pub(crate) fn reader(&self) -> SnapshotReader {
        SnapshotReader { cache: Cache::new(self.0.clone()), held: None }
    }
}

/// A snapshot as the requests of one thread hold it.
#[allow(clippy::redundant_allocation, reason = "the outer count is not shared between threads")]
pub(crate) type InUse = Rc<Arc<Snapshot>>;

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
        if self.held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, in_force)) {
            self.held = Some(Rc::new(in_force.clone()));
        }
        self.held.clone()
    }
}
