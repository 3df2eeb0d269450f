//! What all connections of one worker use, on its thread alone.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

use crate::{
    audit::Recorder,
    buffers::Buffers,
    counters::WorkerMetrics,
    date::Dates,
    executor::LocalExecutor,
    known::KnownSecrets,
    limits::WorkerLimiter,
    random::Random,
    settings::Settings,
    snapshot::{InUse, SnapshotReader},
    timers::Timers,
    upstream::Forwarder,
};

/// What the connections of a worker share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    // Borrowed for one load, which calls nothing that could borrow it again.
    pub(crate) snapshots: RefCell<SnapshotReader>,
    pub(crate) limiter: WorkerLimiter,
    pub(crate) recorder: Recorder,
    pub(crate) known: KnownSecrets,
    pub(crate) forwarder: Forwarder,
    pub(crate) executor: LocalExecutor,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) dates: Dates,
    pub(crate) random: Rc<Random>,
    pub(crate) metrics: Arc<WorkerMetrics>,
}

impl Shared {
    /// The snapshot a request is served from.
    pub(crate) fn snapshot(&self) -> Option<InUse> {
        self.snapshots.borrow_mut().load()
    }

    /// Whether the forwarding headers of a peer are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}
