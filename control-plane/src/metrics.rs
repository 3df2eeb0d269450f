//! Every metric of the control plane, in one file.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// What the admin port shows, and what it counts of its own calls.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    calls: Family<Call, Counter>,
    seconds: Family<Method, Histogram>,
}

/// What the config feed sent, over all nodes.
#[derive(Clone, Default)]
pub(crate) struct FeedCounts {
    pub(crate) snapshots: Counter,
    pub(crate) deltas: Counter,
    pub(crate) nacks: Counter,
    pub(crate) digest_mismatches: Counter,
    pub(crate) set_backs: Counter,
}

/// What nodes pushed of their audit events.
#[derive(Clone, Default)]
pub(crate) struct IngestCounts {
    pub(crate) stored: Counter,
    pub(crate) repeated: Counter,
    pub(crate) lost: Counter,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Call {
    method: String,
    code: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Method {
    method: String,
}

impl Metrics {
    pub(crate) fn new(feed: &FeedCounts, ingest: &IngestCounts) -> Self {
        let mut registry = Registry::default();
        let calls = Family::default();
        let seconds = Family::<Method, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 8))
        });
        registry.register("fastgate_admin_calls", "Admin calls, gRPC and REST", calls.clone());
        registry.register("fastgate_admin_call_seconds", "Time admin calls took", seconds.clone());
        for (name, help, counter) in [
            ("fastgate_feed_snapshots", "Snapshots sent to nodes", &feed.snapshots),
            ("fastgate_feed_deltas", "Deltas sent to nodes", &feed.deltas),
            ("fastgate_feed_nacks", "Revisions nodes refused", &feed.nacks),
            (
                "fastgate_feed_digest_mismatches",
                "Nodes found to hold something else than was sent",
                &feed.digest_mismatches,
            ),
            (
                "fastgate_feed_set_backs",
                "Times the database was found at an earlier revision than before",
                &feed.set_backs,
            ),
            ("fastgate_events_stored", "Audit events stored", &ingest.stored),
            ("fastgate_batches_repeated", "Batches that were stored before", &ingest.repeated),
            ("fastgate_events_lost", "Audit events nodes said they lost", &ingest.lost),
        ] {
            registry.register(name, help, counter.clone());
        }
        Self { registry: Arc::new(registry), calls, seconds }
    }

    /// Counts one call. `method` is a method of the API, or the number of series has no bound.
    pub(crate) fn count(&self, method: &str, code: tonic::Code, seconds: f64) {
        let code = format!("{code:?}");
        self.calls.get_or_create(&Call { method: method.into(), code }).inc();
        self.seconds.get_or_create(&Method { method: method.into() }).observe(seconds);
    }

    /// The text Prometheus reads.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
