//! Tells nodes how much was used of a quota since its day or month began, from what is stored. Of a key
//! whose limits were reset since, it is what was used from the next full minute after that on: sums are
//! kept by the minute, and what was used before a reset must not count.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    audit::passed_limits,
    model::{Calendar, Id},
    node::v1::{
        Usage, UsagePeriod, UsageQuery,
        audit_query_server::{AuditQuery, AuditQueryServer},
    },
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{Metrics, MetricsQuery, Step, Sums},
    identity::Peer,
    nodes::check_names,
    store::{Store, StoreError},
};

/// More errors than there are names for.
const ALL_ERRORS: usize = 1000;

/// Counts what was used.
pub(crate) struct StoredUsage(pub(crate) Arc<dyn Store>);

impl StoredUsage {
    /// The service nodes ask.
    pub(crate) fn service(self) -> AuditQueryServer<Self> {
        AuditQueryServer::new(self)
    }
}

#[async_trait]
impl AuditQuery for StoredUsage {
    async fn count_usage(&self, query: Request<UsageQuery>) -> Result<Response<Usage>, Status> {
        let peer = Peer::of(query.extensions());
        let (query, ends_in) = parse(query.into_inner(), SystemTime::now())?;
        peer.check(&query.environment, None)?;
        let used = self.used(query).await.map_err(|fault| {
            tracing::warn!(error = %fault, "can't count what was used of a quota");
            Status::unavailable("the database can't be asked")
        })?;
        let ends_in_ms = u64::try_from(ends_in.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(Usage { ends_in_ms, ..used }))
    }
}

impl StoredUsage {
    async fn used(&self, period: MetricsQuery) -> Result<Usage, StoreError> {
        let reset_at = match &period.key_id {
            Some(key_id) => self.0.key(&period.environment, key_id).await?,
            None => None,
        };
        let reset_at = reset_at.and_then(|(key, _)| key.object.limits_reset_at);
        let mut used = Usage::default();
        for query in since(period, reset_at) {
            let of_part = usage(&self.0.metrics(&query).await?);
            used.requests += of_part.requests;
            used.request_bytes += of_part.request_bytes;
            used.response_bytes += of_part.response_bytes;
        }
        Ok(used)
    }
}

/// What of the requests passed the limits.
fn usage(found: &Metrics) -> Usage {
    let refused = found.errors.iter().filter(|(name, _)| !passed_limits::ALL.contains(&&**name));
    let refused: Vec<_> = refused.map(|(_, total)| &total.sums).collect();
    let used = |count: fn(&Sums) -> u64| {
        let refused: u64 = refused.iter().map(|sums| count(sums)).sum();
        count(&found.totals.sums).saturating_sub(refused)
    };
    Usage {
        requests: used(|sums| sums.requests),
        request_bytes: used(|sums| sums.request_bytes),
        response_bytes: used(|sums| sums.response_bytes),
        ends_in_ms: 0,
    }
}

/// What to ask for a period of whole days from a reset on: its minutes to the end of an hour, the hours to
/// the end of a day, and the days from there.
fn since(period: MetricsQuery, reset_at: Option<SystemTime>) -> Vec<MetricsQuery> {
    let Some(reset_at) = reset_at.filter(|at| *at > period.from) else { return vec![period] };
    let end = |step: Step, time| step.begin(time + step.length() - Duration::from_micros(1));
    let mut from = reset_at;
    let parts =
        [(Step::Minute, Some(Step::Hour)), (Step::Hour, Some(Step::Day)), (Step::Day, None)];
    let parts = parts.map(|(step, coarser)| {
        let begin = end(step, from).min(period.until);
        from = coarser.map_or(period.until, |coarser| end(coarser, begin).min(period.until));
        MetricsQuery { from: begin, until: from, step, ..period.clone() }
    });
    parts.into_iter().filter(|part| part.from < part.until).collect()
}

/// What is to be counted, and how long its period goes on.
fn parse(query: UsageQuery, now: SystemTime) -> Result<(MetricsQuery, Duration), Status> {
    let calendar = match query.period() {
        UsagePeriod::Day => Calendar::Day,
        UsagePeriod::Month => Calendar::Month,
        UsagePeriod::Unspecified => return Err(Status::invalid_argument("period: is missing")),
    };
    let environment = check_names(&query.environment, &[])?;
    let id = |field: &str, text: String| match text.is_empty() {
        true => Ok(None),
        false => match Id::parse(&text) {
            Ok(_) => Ok(Some(text)),
            Err(fault) => Err(Status::invalid_argument(format!("{field}: {fault}"))),
        },
    };
    let (key_id, route_id) = (id("key_id", query.key_id)?, id("route_id", query.route_id)?);
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let period = calendar.period(since.as_secs());
    let (_, seconds) = period.ok_or_else(|| Status::internal("the clock is wrong"))?;
    let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let query = MetricsQuery {
        environment,
        from: at(seconds.start),
        until: at(seconds.end),
        step: Step::Day,
        key_id,
        source_path: None,
        route_id,
        target_url: None,
        error: None,
        status: None,
        top: ALL_ERRORS,
    };
    Ok((query, Duration::from_secs(seconds.end).saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1::LogEvent;

    use super::*;
    use crate::{
        domain::{EventBatch, Expect, Op},
        store::tests::samples,
    };

    /// As somebody on this machine asks it.
    fn asked(query: UsageQuery) -> Request<UsageQuery> {
        let mut request = Request::new(query);
        request.extensions_mut().insert(Peer::Local);
        request
    }

    fn event(key_id: &str, route_id: &str, error: &str) -> LogEvent {
        event_at(SystemTime::now(), key_id, route_id, error)
    }

    fn batch(events: Vec<LogEvent>) -> EventBatch {
        EventBatch {
            node_id: "n1".into(),
            boot_id: "b1".into(),
            environment: samples::id("default"),
            first_seq: 0,
            events,
            counted: Vec::new(),
            gaps: Vec::new(),
        }
    }

    fn event_at(time: SystemTime, key_id: &str, route_id: &str, error: &str) -> LogEvent {
        LogEvent {
            timestamp: Some(time.into()),
            key_id: key_id.into(),
            route_id: route_id.into(),
            error: error.into(),
            request_size: 10,
            response_size: 100,
            status_code: if error.is_empty() { 200 } else { 502 },
            ..LogEvent::default()
        }
    }

    #[tokio::test]
    async fn what_passed_the_limits_is_counted_and_nothing_else() {
        let (store, _dir) = samples::scratch().await;
        let events = vec![
            event("k1", "r1", ""),
            event("k1", "r1", "upstream_timeout"),
            event("k1", "r2", "client_gone"),
            event("k1", "r1", "rate_limited"),
            event("k1", "r1", "permission_missing"),
            event("k2", "r1", ""),
            event("", "r1", "key_unknown"),
        ];
        store.append_events(&batch(events)).await.expect("stores");
        let usage = StoredUsage(store);
        for (key_id, route_id, requests) in
            [("k1", "", 3), ("k1", "r1", 2), ("", "r1", 3), ("k3", "", 0)]
        {
            for period in [UsagePeriod::Day, UsagePeriod::Month] {
                let query = UsageQuery {
                    environment: "default".into(),
                    key_id: key_id.into(),
                    route_id: route_id.into(),
                    period: period.into(),
                };
                let used = usage.count_usage(asked(query)).await.expect("counts");
                let used = used.into_inner();
                assert_eq!(used.requests, requests, "{key_id} {route_id}");
                assert_eq!(used.request_bytes, 10 * requests);
                assert_eq!(used.response_bytes, 100 * requests);
                assert!((1..=31 * 86_400_000).contains(&used.ends_in_ms));
            }
        }
    }

    #[tokio::test]
    async fn after_a_reset_a_key_is_counted_from_the_next_full_minute_on() {
        const MINUTE: u64 = 60;
        const DAY: u64 = 86_400;
        // By UTC, and from then on: November 2026.
        let at = |day: u64, second| {
            let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200);
            begin + Duration::from_secs((day - 1) * DAY + second)
        };
        let reset = 10 * 3600 + 30 * MINUTE;
        let (store, _dir) = samples::scratch().await;
        let key = samples::key("k1").with_limits_reset(at(10, reset + 30));
        let ops =
            vec![Op::PutKey(key, Expect::Absent), Op::PutKey(samples::key("k2"), Expect::Absent)];
        samples::commit(&store, ops).await.expect("commits");
        let before = [at(1, 0), at(9, 0), at(10, reset - 1), at(10, reset + 10)];
        let after = [
            at(10, reset + MINUTE),
            at(10, reset + 20 * MINUTE),
            at(10, reset + 30 * MINUTE),
            at(10, DAY - 1),
            at(11, 0),
            at(20, 0),
        ];
        let same_minute = at(10, reset + 50);
        let times = before.into_iter().chain([same_minute]).chain(after);
        let of_both = times.flat_map(|time| ["k1", "k2"].map(|key| event_at(time, key, "r1", "")));
        store.append_events(&batch(of_both.collect())).await.expect("stores");
        let usage = StoredUsage(store);
        let noon = |day| at(day, DAY / 2);
        for is_rolled_up in [false, true] {
            for (key_id, route_id, period, now, requests) in [
                ("k1", "", UsagePeriod::Month, noon(20), 6),
                ("k1", "r1", UsagePeriod::Month, noon(20), 6),
                ("k1", "", UsagePeriod::Day, noon(10), 4),
                ("k1", "", UsagePeriod::Day, noon(9), 0),
                ("k1", "", UsagePeriod::Day, noon(11), 1),
                ("k2", "", UsagePeriod::Month, noon(20), 11),
                ("k2", "", UsagePeriod::Day, noon(10), 7),
                // What everybody used of a route nobody resets.
                ("", "r1", UsagePeriod::Month, noon(20), 22),
            ] {
                let query = UsageQuery {
                    environment: "default".into(),
                    key_id: key_id.into(),
                    route_id: route_id.into(),
                    period: period.into(),
                };
                let (query, _) = parse(query, now).expect("a query");
                let used = usage.used(query).await.expect("counts");
                assert_eq!(
                    used.requests, requests,
                    "{key_id} {route_id} {period:?} {is_rolled_up}"
                );
            }
            usage.0.roll_up(at(21, 0)).await.expect("adds up");
        }
    }

    #[tokio::test]
    async fn what_can_not_be_counted_is_refused() {
        let (store, _dir) = samples::scratch().await;
        let usage = StoredUsage(store);
        let sound = UsageQuery {
            environment: "default".into(),
            period: UsagePeriod::Day.into(),
            ..UsageQuery::default()
        };
        for (query, field) in [
            (UsageQuery { period: 9, ..sound.clone() }, "period"),
            (UsageQuery { environment: "No!".into(), ..sound.clone() }, "environment"),
            (UsageQuery { key_id: "no such".into(), ..sound.clone() }, "key_id"),
            (UsageQuery { route_id: "é".into(), ..sound }, "route_id"),
        ] {
            let status = usage.count_usage(asked(query)).await.expect_err("is refused");
            assert!(status.message().starts_with(field), "{status}");
        }
    }
}
