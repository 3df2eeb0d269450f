//! What the collector does with a batch of events, for benchmarks.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::{path::Path, sync::Arc};

use fastgate::model::Id;

use super::{
    batch::{Batcher, Sealed},
    outlet::Kind,
    ring::Tap,
    spool::Spool,
};
use crate::identity::Identity;

/// The collector's part of the way of events, step by step.
pub struct Batches {
    batcher: Batcher,
    spool: Spool,
    sealed: Vec<Sealed>,
    boot: uuid::Uuid,
}

impl Batches {
    /// Of the events that come out of a ring, with a spool in `dir`.
    pub(crate) fn of(tap: Tap, dir: &Path) -> Self {
        let id = |text| Id::parse(text).expect("an id");
        let identity = Arc::new(Identity::of_this_boot(id("default"), id("node-1")));
        let mut spool = Spool::open(dir.to_owned(), &identity, 1 << 30, &[Kind::ControlPlane]);
        while spool.recovered().is_none() {
            std::thread::yield_now();
        }
        let boot = identity.boot_id;
        Self { batcher: Batcher::new(identity, vec![tap]), spool, sealed: Vec::new(), boot }
    }

    /// Encodes what is in the ring; returns how many events that was.
    pub fn encode(&mut self) -> u64 {
        self.sealed.extend(std::iter::from_fn(|| self.batcher.next()));
        self.sealed.iter().map(|batch| batch.events).sum()
    }

    /// Bytes of what is encoded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sealed.iter().map(|batch| batch.encoded.len()).sum()
    }

    /// Writes what is encoded to the spool, and lets go of what was written before.
    pub fn write(&mut self) {
        for batch in self.sealed.drain(..) {
            let place = self.spool.append(&batch).expect("room");
            self.spool.stored(0, self.boot, place);
        }
    }
}
