//! Every metric of a node, in one file.
//!
//! Workers count each for itself; a scrape sums them up.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    audit::{self, SinkState},
    control_planes::ControlPlanes,
    counters::{Cell, DURATION_BOUNDS, WorkerMetrics},
    limits::Limiter,
    sync::{self, Namespace, Progress},
};

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
    /// Says how long the node's certificate holds.
    pub(crate) control_planes: ControlPlanes,
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
        let failed = self.sum(|w| &w.tls_handshake_failures);
        counter(to, "tls_handshake_failures", "TLS handshakes that came to nothing", failed)?;
        let active = self.sum(|w| &w.active_requests);
        gauge(to, "requests_active", "Requests under way", active)?;
        let produced = self.audit.produced();
        counter(to, "audit_events_produced", "Audit events, dropped ones included", produced)?;
        let dropped = self.audit.dropped();
        counter(
            to,
            "audit_events_dropped",
            "Audit events lost: no room, damaged on disk, or refused for good",
            dropped,
        )?;
        let refused = self.audit.refused();
        let help = "Those of them that the control plane will never store";
        counter(to, "audit_events_refused", help, refused)?;
        let stored = self.audit.stored();
        counter(to, "audit_events_stored", "Audit events the control plane has stored", stored)?;
        let spooled = self.audit.spooled();
        gauge(to, "audit_events_spooled", "Audit events not stored yet", spooled)?;
        self.encode_spool(to)?;
        self.encode_sinks(to)?;
        gauge(to, "audit_tails", "Tails of the audit log served", self.audit.tails())?;
        let help = "Audit events sent to tails of the log, as they came";
        counter(to, "audit_events_tailed", help, self.audit.tailed())?;
        self.encode_config(to)?;
        let state = [("state", self.limiter.state().name())];
        let help = "Where limits are counted: redis, local (none set) or fallback (redis away or too slow)";
        family(to, "limits_state", help, &[(state, 1)], Kind::Gauge)?;
        let calls = self.limiter.redis_calls();
        counter(to, "limits_redis_calls", "Calls that lease tokens from Redis", calls)?;
        self.encode_refusals(to)
    }
}

impl Metrics {
    fn encode_refusals(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let refusals = self.limiter.refusals();
        let row = |(name, [enforced, shadow]): &'_ (Box<str>, [u64; 2])| {
            let labels = |mode: &str| [("limit", name.to_string()), ("mode", mode.to_owned())];
            [(labels("enforced"), *enforced), (labels("shadow"), *shadow)]
        };
        let rows: Vec<_> = refusals.iter().flat_map(row).collect();
        let help = "Requests a limit refused, or would have, were it not in shadow mode";
        family(to, "limits_refusals", help, &rows, Kind::Counter)
    }

    fn encode_spool(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let left = self.audit.left();
        gauge(to, "audit_events_left", "Audit events of earlier starts not stored yet", left)?;
        let lost = self.audit.lost().map(|(reason, events)| ([("reason", reason)], events));
        let help = "Audit events of earlier starts that are lost";
        family(to, "audit_events_lost", help, &lost, Kind::Counter)?;
        let bytes = self.audit.spool_bytes();
        gauge(to, "audit_spool_bytes", "Bytes of the audit spool on disk", bytes)?;
        let limit = self.audit.spool_limit();
        gauge(to, "audit_spool_limit_bytes", "Bytes it may take; 0: there is none", limit)?;
        let help = "Whether it takes no events: it is full, or can't be written";
        gauge(to, "audit_spool_full", help, self.audit.is_full().into())
    }

    fn encode_sinks(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sinks: Vec<_> = self.audit.sinks().collect();
        let of = |pick: fn(&SinkState) -> u64| -> Vec<_> {
            sinks.iter().map(|sink| ([("sink", sink.name)], pick(sink))).collect()
        };
        let help = "Audit events a sink has not acknowledged yet";
        family(to, "audit_sink_waiting", help, &of(|s| s.waiting), Kind::Gauge)?;
        let help = "Audit events a sink has taken";
        family(to, "audit_sink_taken", help, &of(|s| s.taken), Kind::Counter)?;
        let help = "Audit events a sink will never take";
        family(to, "audit_sink_refused", help, &of(|s| s.refused), Kind::Counter)?;
        let help = "Audit events the disk could not give back for a sink";
        family(to, "audit_sink_damaged", help, &of(|s| s.damaged), Kind::Counter)?;
        let help = "Tries to hand audit events to a sink that failed";
        family(to, "audit_sink_errors", help, &of(|s| s.errors), Kind::Counter)?;
        let help = "Whether a sink did not take what it was given last";
        family(to, "audit_sink_away", help, &of(|s| s.is_away.into()), Kind::Gauge)
    }

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
        if let Some(left) = self.control_planes.certificate_seconds() {
            let help = "Seconds until the node's certificate ends, below zero once it has";
            to.encode_descriptor("certificate_seconds_left", help, None, MetricType::Gauge)?
                .encode_gauge(&left)?;
        }
        let bad = self.progress.quarantined();
        gauge(to, "keys_quarantined", "Keys denied because their record is bad", bad)?;
        let help = "Whether the state can't be saved: a restart would begin with an older one";
        gauge(to, "state_unsaved", help, self.progress.has_unsaved().into())?;
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
    rows: &[(impl EncodeLabelSet, u64)],
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
