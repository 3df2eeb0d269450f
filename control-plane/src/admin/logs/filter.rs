//! What a request asks of events, as the store is asked.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{ExportLogsRequest, ListLogsRequest},
    audit::EventMatch,
    model::{Id, Violations},
};

use super::super::time;
use crate::{domain::EventFilter, error::Error};

/// How far back a request reaches that names no start.
const WINDOW: Duration = Duration::from_secs(3600);
/// How far ahead of this clock a node's clock may be for its events to be listed as of now.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Takes the filters of a request; its page is none of them.
pub(super) fn parse(
    environment: Id,
    request: ListLogsRequest,
    now: SystemTime,
) -> Result<EventFilter, Error> {
    let mut faults = Violations::default();
    let start = time("start_time", request.start_time, &mut faults);
    let end = time("end_time", request.end_time, &mut faults);
    let until = end.unwrap_or(now + CLOCK_SKEW);
    let hour_before = || end.unwrap_or(now).checked_sub(WINDOW).unwrap_or(SystemTime::UNIX_EPOCH);
    let from = start.unwrap_or_else(hour_before);
    if until < from {
        let (field, fault) = match end {
            Some(_) => ("end_time", "is before start_time: swap them or leave one out"),
            None => ("start_time", "is in the future: give an earlier time"),
        };
        faults.add(field, fault);
    }
    let matching = EventMatch::parse(request, &mut faults);
    Ok(faults.or(EventFilter { environment, from, until, matching })?)
}

/// The list of what an export holds.
pub(super) fn of_export(request: ExportLogsRequest) -> ListLogsRequest {
    ListLogsRequest {
        environment: request.environment,
        key_id: request.key_id,
        source_path: request.source_path,
        path_prefix: request.path_prefix,
        method: request.method,
        status_code: request.status_code,
        start_time: request.start_time,
        end_time: request.end_time,
        request_id: request.request_id,
        route_id: request.route_id,
        path_contains: request.path_contains,
        target_url: request.target_url,
        error: request.error,
        ip_address: request.ip_address,
        user_agent_contains: request.user_agent_contains,
        node_id: request.node_id,
        rate_limited: request.rate_limited,
        secret_version: request.secret_version,
        min_attempts: request.min_attempts,
        min_response_time_ms: request.min_response_time_ms,
        min_upstream_time_ms: request.min_upstream_time_ms,
        min_ttfb_ms: request.min_ttfb_ms,
        min_request_size: request.min_request_size,
        min_response_size: request.min_response_size,
        response_end: request.response_end,
        min_response_chunks: request.min_response_chunks,
        ..ListLogsRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn window(start: Option<i64>, end: Option<i64>) -> Result<(SystemTime, SystemTime), Error> {
        let stamp = |seconds: Option<i64>| seconds.map(|seconds| Timestamp { seconds, nanos: 0 });
        let request = ListLogsRequest {
            start_time: stamp(start),
            end_time: stamp(end),
            ..ListLogsRequest::default()
        };
        let environment = Id::parse("default").expect("an id");
        parse(environment, request, at(10_000)).map(|filter| (filter.from, filter.until))
    }

    #[test]
    fn the_window_is_the_last_hour_where_none_is_named() {
        let soon = at(10_060);
        assert_eq!(window(None, None).expect("a window"), (at(6_400), soon));
        assert_eq!(window(Some(5), None).expect("a window"), (at(5), soon));
        assert_eq!(window(None, Some(9_000)).expect("a window"), (at(5_400), at(9_000)));
        assert_eq!(window(Some(5), Some(9)).expect("a window"), (at(5), at(9)));
        assert!(window(Some(9), Some(5)).is_err());
        assert!(window(Some(20_000), None).is_err());
    }

    #[test]
    fn texts_are_bounded_and_on_one_line() {
        let refused = |text: &str| {
            let text = || text.to_owned();
            let request = ListLogsRequest {
                key_id: text(),
                source_path: text(),
                path_prefix: text(),
                path_contains: text(),
                target_url: text(),
                error: text(),
                ip_address: text(),
                user_agent_contains: text(),
                node_id: text(),
                method: text(),
                request_id: text(),
                route_id: text(),
                response_end: if text() == "用户" { "complete".into() } else { text() },
                ..ListLogsRequest::default()
            };
            match parse(Id::parse("default").expect("an id"), request, at(10_000)) {
                Ok(_) => 0,
                Err(Error::Invalid(faults)) => faults.iter().count(),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(refused("用户"), 0);
        for text in ["\0", "a\nb", "\u{7f}", &"x".repeat(2049)] {
            assert_eq!(refused(text), 13, "{text:?}");
        }
    }
}
