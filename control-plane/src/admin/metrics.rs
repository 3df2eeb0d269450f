//! What passed through the gateway, added up.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{
        self, GetMetricsRequest, NamedSums, RequestSums, StepSums,
        metrics_service_server::MetricsService,
    },
    audit::parse_status,
    model::{Id, Violations},
};
use tonic::{Request, Response, Status};

use super::{Admin, some_text, time};
use crate::{
    domain::{MetricsQuery, Step, Total},
    error::Error,
};

/// How far back metrics reach that are asked from no time on.
const WINDOW: Duration = Duration::from_secs(86_400);
/// Keys, source paths and so on that are named.
const DEFAULT_TOP: i32 = 10;
const MAX_TOP: i32 = 100;
/// The most steps of one answer: more than the minutes of a day.
const MAX_STEPS: u128 = 1500;

#[tonic::async_trait]
impl MetricsService for Admin {
    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<v1::Metrics>, Status> {
        let request = request.into_inner();
        let environment = self.environment(&request.environment, "").await?;
        let query = parse(environment, request, SystemTime::now())?;
        let found = self.store.metrics(&query).await.map_err(Error::from)?;
        let series = found.series.into_iter().map(|(at_us, total)| {
            let at = Duration::from_micros(at_us.unsigned_abs());
            let start_time = Some((SystemTime::UNIX_EPOCH + at).into());
            StepSums { start_time, sums: Some(shown(&total)) }
        });
        Ok(Response::new(v1::Metrics {
            start_time: Some(query.from.into()),
            end_time: Some(query.until.into()),
            step: name(query.step).into(),
            totals: Some(shown(&found.totals)),
            series: series.collect(),
            top_keys: named(found.keys),
            top_source_paths: named(found.source_paths),
            top_routes: named(found.routes),
            top_targets: named(found.targets),
            top_errors: named(found.errors),
        }))
    }
}

fn parse(
    environment: Id,
    request: GetMetricsRequest,
    now: SystemTime,
) -> Result<MetricsQuery, Error> {
    let mut faults = Violations::default();
    let start = time("start_time", request.start_time, &mut faults);
    let end = time("end_time", request.end_time, &mut faults);
    let until = end.unwrap_or(now);
    let from = start.unwrap_or_else(|| until.checked_sub(WINDOW).unwrap_or(SystemTime::UNIX_EPOCH));
    if until < from {
        let (field, fault) = match end {
            Some(_) => ("end_time", "is before start_time: swap them or leave one out"),
            None => ("start_time", "is in the future: give an earlier time"),
        };
        faults.add(field, fault);
    }
    let span = until.duration_since(from).unwrap_or_default();
    let step = match request.step.as_str() {
        "" => step_for(span),
        "minute" => Step::Minute,
        "hour" => Step::Hour,
        "day" => Step::Day,
        other => {
            faults.add("step", format!("is '{other}': give 'minute', 'hour' or 'day'"));
            Step::Day
        }
    };
    if span.as_micros() / step.length().as_micros() > MAX_STEPS {
        let fault = format!(
            "cuts the time into more than {MAX_STEPS} parts: give a longer step or a shorter time"
        );
        faults.add("step", fault);
    }
    let top = match request.top {
        0 => DEFAULT_TOP,
        1..=MAX_TOP => request.top,
        other => {
            faults.add("top", format!("is {other}: give 1 to {MAX_TOP}"));
            DEFAULT_TOP
        }
    };
    let status = parse_status(&request.status_code).unwrap_or_else(|fault| {
        faults.add("status_code", fault);
        None
    });
    let mut text = |field: &str, text: String| {
        if text.contains('\0') {
            faults.add(field, "holds a control character: remove it");
        }
        some_text(text)
    };
    let query = MetricsQuery {
        environment,
        from: step.begin(from),
        until: step.begin(until + step.length() - Duration::from_micros(1)).min(latest()),
        step,
        key_id: text("key_id", request.key_id),
        source_path: text("source_path", request.source_path),
        route_id: text("route_id", request.route_id),
        target_url: text("target_url", request.target_url),
        error: text("error", request.error),
        status,
        top: usize::try_from(top).unwrap_or_default(),
    };
    Ok(faults.or(query)?)
}

/// The last time there is that can be written (RFC 3339, as JSON has them).
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799)
}

/// So that a picture of the time has some tens of steps, up to about two hundred.
fn step_for(span: Duration) -> Step {
    const HOUR: Duration = Duration::from_secs(3600);
    match span {
        span if span <= 3 * HOUR => Step::Minute,
        span if span <= 8 * 24 * HOUR => Step::Hour,
        _ => Step::Day,
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Minute => "minute",
        Step::Hour => "hour",
        Step::Day => "day",
    }
}

fn named(totals: Vec<(String, Total)>) -> Vec<NamedSums> {
    totals.into_iter().map(|(name, total)| NamedSums { name, sums: Some(shown(&total)) }).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a share of so many is not seen to the last digit")]
fn shown(total: &Total) -> RequestSums {
    let sums = &total.sums;
    RequestSums {
        requests: sums.requests,
        client_errors: total.client_errors,
        server_errors: total.server_errors,
        error_rate: total.server_errors as f64 / sums.requests.max(1) as f64,
        rate_limited: sums.rate_limited,
        request_size: sums.request_bytes,
        response_size: sums.response_bytes,
        p50_ms: sums.latency.quantile(0.5),
        p90_ms: sums.latency.quantile(0.9),
        p99_ms: sums.latency.quantile(0.99),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    /// 9999-12-31T23:59:59Z.
    const LAST: i64 = 253_402_300_799;

    /// What is asked for at 100,000 s after 1970, as seconds.
    fn window(request: GetMetricsRequest) -> Option<(u64, u64, Step)> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000);
        let query = parse(Id::parse("default").expect("an id"), request, now).ok()?;
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
        };
        Some((seconds(query.from), seconds(query.until), query.step))
    }

    #[test]
    fn the_window_is_the_last_day_where_none_is_named_and_of_whole_steps() {
        let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
        let asked = |start: i64, end: i64, step: &str| GetMetricsRequest {
            start_time: at(start),
            end_time: at(end),
            step: step.into(),
            ..Default::default()
        };
        for (request, expected) in [
            (GetMetricsRequest::default(), Some((10_800, 100_800, Step::Hour))),
            (asked(61, 119, ""), Some((60, 120, Step::Minute))),
            (asked(60, 120, ""), Some((60, 120, Step::Minute))),
            (asked(60, 60, ""), Some((60, 60, Step::Minute))),
            (asked(60, 10_861, ""), Some((0, 14_400, Step::Hour))),
            (asked(60, 10_861, "day"), Some((0, 86_400, Step::Day))),
            (asked(60, 10_861, "week"), None),
            (asked(0, 90_001, "minute"), Some((0, 90_060, Step::Minute))),
            (asked(0, 90_120, "minute"), None),
            // Where the last step of all time would end there is no time to show.
            (asked(LAST, LAST, ""), Some((LAST as u64 / 60 * 60, LAST as u64, Step::Minute))),
            (asked(120, 60, ""), None),
            (GetMetricsRequest { start_time: at(200_000), ..Default::default() }, None),
            (GetMetricsRequest { top: 101, ..Default::default() }, None),
            (GetMetricsRequest { status_code: "9xx".into(), ..Default::default() }, None),
            (GetMetricsRequest { key_id: "\0".into(), ..Default::default() }, None),
        ] {
            assert_eq!(window(request.clone()), expected, "{request:?}");
        }
    }
}
