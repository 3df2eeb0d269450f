//! What all connections of one worker use, on its thread alone.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

use crate::{
    audit::Recorder,
    buffers::Buffers,
    callers::Callers,
    counters::WorkerMetrics,
    date::Dates,
    falls::{Fall, Falls},
    limits::WorkerLimiter,
    random::Random,
    recorded::Room,
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
    pub(crate) callers: Callers,
    pub(crate) forwarder: Forwarder,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) dates: Dates,
    pub(crate) random: Rc<Random>,
    /// For what routes ask to be recorded.
    pub(crate) room: Room,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Told of connections that panicked.
    pub(crate) falls: Falls,
}

/// What a worker brings along.
pub(crate) struct Brought {
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshots: SnapshotReader,
    pub(crate) limiter: WorkerLimiter,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) falls: Falls,
}

impl Shared {
    /// Sets up what the connections of a worker will share.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn new(brought: Brought) -> Result<Rc<Self>, getrandom::Error> {
        let Brought { settings, snapshots, limiter, recorder, metrics, falls } = brought;
        let random = Rc::new(Random::seeded()?);
        let (buffers, timers) = (Rc::new(Buffers::default()), Rc::new(Timers::default()));
        let forwarder =
            Forwarder::new(buffers.clone(), timers.clone(), random.clone(), metrics.clone());
        Ok(Rc::new(Self {
            settings,
            snapshots: RefCell::new(snapshots),
            limiter,
            recorder,
            callers: Callers::default(),
            forwarder,
            buffers,
            timers,
            dates: Dates::default(),
            random,
            room: Room::default(),
            metrics,
            falls,
        }))
    }

    /// The snapshot a request is served from.
    pub(crate) fn snapshot(&self) -> Option<InUse> {
        self.snapshots.borrow_mut().load()
    }

    /// Whom a panic of a connection is held against: the config requests were served from last.
    pub(crate) fn fall(&self) -> Fall {
        let snapshots = self.snapshots.try_borrow();
        Fall::Connection(snapshots.map_or(0, |snapshots| snapshots.config_revision()))
    }

    /// Whether the forwarding headers of a peer are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.settings.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}
