//! Every metric of a node, in one file.
//!
//! Workers count in cells of their own, which only they write; a scrape sums them up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    audit,
    limits::Limiter,
    sync::{self, Namespace, Progress},
};

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

/// Upper bounds of the buckets of request durations, in seconds.
pub(crate) const DURATION_BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What one worker counts.
#[derive(Default, Debug)]
pub(crate) struct WorkerMetrics {
    /// Requests by the first digit of the status: 1xx to 5xx.
    by_class: [Cell; 5],
    /// Durations of requests: one bucket per bound, then the rest.
    buckets: [Cell; DURATION_BOUNDS.len() + 1],
    /// The sum of those durations in microseconds.
    duration_micros: Cell,
    /// Client connections that are open.
    pub(crate) connections: Cell,
    /// Client connections that were accepted.
    pub(crate) accepted: Cell,
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
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
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

/// What a node counts.
pub(crate) struct Metrics {
    /// One for each worker.
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// What became of audit events.
    pub(crate) audit: audit::Ledger,
    /// How far the config stream has come.
    pub(crate) progress: Progress,
    /// Says where limits are counted.
    pub(crate) limiter: Limiter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Everything, as OpenMetrics text.
    pub(crate) fn into_registry(self) -> Registry {
        let mut registry = Registry::with_prefix("fastgate");
        registry.register_collector(Box::new(self));
        registry
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &Cell) -> u64 {
        self.workers.iter().map(|worker| of(worker).get()).sum()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.encode_requests(to)?;
        counter(to, "retries", "Further attempts to send a request", self.sum(|w| &w.retries))?;
        let failures = self.sum(|w| &w.upstream_failures);
        counter(to, "upstream_failures", "Attempts that got no answer", failures)?;
        let made = self.sum(|w| &w.upstream_connections);
        counter(to, "upstream_connections", "Connections made to targets", made)?;
        let accepted = self.sum(|w| &w.accepted);
        counter(to, "connections_accepted", "Client connections accepted", accepted)?;
        let open = self.sum(|w| &w.connections);
        gauge(to, "connections", "Client connections open", open)?;
        let active = self.sum(|w| &w.active_requests);
        gauge(to, "requests_active", "Requests under way", active)?;
        let produced = self.audit.produced();
        counter(to, "audit_events_produced", "Audit events, dropped ones included", produced)?;
        let dropped = self.audit.dropped();
        counter(to, "audit_events_dropped", "Audit events lost because a queue was full", dropped)?;
        let stored = self.audit.shipped();
        counter(to, "audit_events_stored", "Audit events the control plane has stored", stored)?;
        let waiting = self.audit.waiting();
        gauge(to, "audit_events_waiting", "Audit events not stored yet", waiting)?;
        self.encode_config(to)?;
        let state = [("state", self.limiter.state().name())];
        let help = "Where limits are counted: redis, local (none set) or fallback (redis away)";
        family(to, "limits_state", help, &[(state, 1)], Kind::Gauge)
    }
}

impl Metrics {
    fn encode_requests(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let mut rows = Vec::with_capacity(classes.len());
        for (at, class) in classes.into_iter().enumerate() {
            let cells = self.workers.iter().filter_map(|worker| worker.by_class.get(at));
            rows.push(([("class", class)], cells.map(Cell::get).sum()));
        }
        family(to, "requests", "Requests answered, by status class", &rows, Kind::Counter)?;

        let bounds = DURATION_BOUNDS.into_iter().chain([f64::MAX]);
        let mut buckets = Vec::with_capacity(DURATION_BOUNDS.len() + 1);
        for (at, bound) in bounds.enumerate() {
            let cells = self.workers.iter().filter_map(|worker| worker.buckets.get(at));
            buckets.push((bound, cells.map(Cell::get).sum()));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = self.sum(|w| &w.duration_micros) as f64 / 1e6;
        let help = "From a request's head to the last byte of its answer";
        let unit = Some(&Unit::Seconds);
        to.encode_descriptor("request_duration", help, unit, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn encode_config(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let connected = u64::from(self.progress.connected());
        gauge(to, "control_plane_connected", "Whether a control plane is followed", connected)?;
        let bad = self.progress.quarantined();
        gauge(to, "keys_quarantined", "Keys denied because their record is bad", bad)?;
        let of = |pick: fn(sync::Counts) -> u64| {
            Namespace::ALL.map(|ns| ([("namespace", ns.name())], pick(self.progress.counts(ns))))
        };
        let help = "The revision in force";
        family(to, "config_revision", help, &of(|c| c.revision), Kind::Gauge)?;
        let help = "The last revision the control plane told of";
        family(to, "config_head_revision", help, &of(|c| c.head), Kind::Gauge)?;
        let help = "Full snapshots received and taken into use";
        family(to, "config_snapshots", help, &of(|c| c.snapshots), Kind::Counter)?;
        let help = "Deltas received and taken into use";
        family(to, "config_deltas", help, &of(|c| c.deltas), Kind::Counter)?;
        let help = "Revisions refused";
        family(to, "config_nacks", help, &of(|c| c.nacks), Kind::Counter)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A label and its value.
type Label = [(&'static str, &'static str); 1];

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn family(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[(Label, u64)],
    kind: Kind,
) -> fmt::Result {
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut encoder = to.encode_descriptor(name, help, None, metric_type)?;
    for (label, value) in rows {
        let mut row = encoder.encode_family(label)?;
        match kind {
            Kind::Counter => row.encode_counter::<NoLabelSet, _, u64>(value, None)?,
            Kind::Gauge => row.encode_gauge(value)?,
        }
    }
    Ok(())
}
