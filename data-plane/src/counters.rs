//! What one worker counts: in cells only it writes, so that counting takes no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets of request durations, in seconds.
pub(crate) use fastgate::durations::BOUNDS as DURATION_BOUNDS;
use http::StatusCode;

/// A count written by one thread and read by any.
#[derive(Default, Debug)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Counts one more. Only the owning thread may call it: a plain load and store is cheaper
    /// than an atomic addition.
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    /// Counts more.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Counts one less, for what comes and goes.
    pub(crate) fn take_one(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Replaces the count.
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Relaxed);
    }

    /// The count.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts.
#[derive(Default, Debug)]
pub(crate) struct WorkerMetrics {
    /// Requests by the first digit of the status: 1xx to 5xx.
    pub(crate) by_class: [Cell; 5],
    /// Durations of requests: one bucket per bound, then the rest.
    pub(crate) buckets: [Cell; DURATION_BOUNDS.len() + 1],
    /// The sum of those durations in microseconds.
    pub(crate) duration_micros: Cell,
    /// Client connections that are open.
    pub(crate) connections: Cell,
    /// Client connections that were accepted.
    pub(crate) accepted: Cell,
    /// TLS handshakes that came to nothing.
    pub(crate) tls_handshake_failures: Cell,
    /// Requests under way.
    pub(crate) active_requests: Cell,
    /// Further attempts to send a request.
    pub(crate) retries: Cell,
    /// Attempts without an answer: no connection, or one that broke.
    pub(crate) upstream_failures: Cell,
    /// Connections made to targets.
    pub(crate) upstream_connections: Cell,
}

impl WorkerMetrics {
    /// Counts a request that has ended.
    pub(crate) fn request_ended(&self, status: StatusCode, duration: Duration) {
        // An upstream may make up statuses beyond 599: to a client they are errors of a server.
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        if let Some(count) = self.by_class.get(class) {
            count.add_one();
        }
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.buckets.get(bucket.unwrap_or(DURATION_BOUNDS.len())) {
            count.add_one();
        }
        self.duration_micros.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}
