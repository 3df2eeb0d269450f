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

/// How nodes come by their certificates.
#[derive(Clone)]
pub(crate) struct IdentityCounts {
    pub(crate) joins: Counter,
    pub(crate) renewals: Counter,
    refusals: Family<Refused, Counter>,
}

/// Why a node was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum JoinRefusal {
    /// What it sent can't be read: names or the request for a certificate.
    Request,
    /// The token has not the form of one.
    Malformed,
    /// It was deleted, or expired long ago.
    Unknown,
    /// It has expired.
    Expired,
    /// It is for another node or environment.
    Elsewhere,
    /// Another node was faster.
    Used,
    /// The database or the CA could not be used: the node is not to blame.
    Unavailable,
}

/// TLS handshakes that came to nothing, of both ports.
#[derive(Clone, Default)]
pub(crate) struct HandshakeCounts(Family<Port, Counter>);

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Port {
    port: &'static str,
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

impl Default for IdentityCounts {
    fn default() -> Self {
        let refusals = Family::<Refused, Counter>::default();
        // Shown before the first, so that a rate knows of it.
        for reason in JoinRefusal::ALL {
            drop(refusals.get_or_create(&Refused { reason: reason.name() }));
        }
        Self { joins: Counter::default(), renewals: Counter::default(), refusals }
    }
}

impl IdentityCounts {
    pub(crate) fn refuse(&self, reason: JoinRefusal) {
        self.refusals.get_or_create(&Refused { reason: reason.name() }).inc();
    }
}

impl HandshakeCounts {
    /// Those of the admin port.
    pub(crate) fn admin(&self) -> Counter {
        self.0.get_or_create_owned(&Port { port: "admin" })
    }

    /// Those of the node port.
    pub(crate) fn node(&self) -> Counter {
        self.0.get_or_create_owned(&Port { port: "node" })
    }
}

impl JoinRefusal {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Malformed,
        Self::Unknown,
        Self::Expired,
        Self::Elsewhere,
        Self::Used,
        Self::Unavailable,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Request => "bad_request",
            Self::Malformed => "token_malformed",
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::Elsewhere => "token_elsewhere",
            Self::Used => "token_used",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Metrics {
    pub(crate) fn new(
        feed: &FeedCounts,
        ingest: &IngestCounts,
        joining: &IdentityCounts,
        handshakes: &HandshakeCounts,
    ) -> Self {
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
            ("fastgate_node_joins", "Nodes that joined", &joining.joins),
            ("fastgate_node_renewals", "Certificates of nodes renewed", &joining.renewals),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "Nodes that were not let in, by reason";
        registry.register("fastgate_node_joins_refused", help, joining.refusals.clone());
        let help = "TLS handshakes that came to nothing, by port";
        registry.register("fastgate_tls_handshake_failures", help, handshakes.0.clone());
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
