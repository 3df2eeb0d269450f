//! What a request asks of events, as the store is asked.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{ExportLogsRequest, ListLogsRequest, TailLogsRequest},
    model::{Id, Violations},
};

use super::super::{some_text, time};
use crate::{
    domain::{EventFilter, EventMatch},
    error::Error,
};

/// How far back a request reaches that names no start.
const WINDOW: Duration = Duration::from_secs(3600);
/// How far ahead of this clock a node's clock may be for its events to be listed as of now.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Bytes of any text that is searched for.
const MAX_TEXT: usize = 2048;

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
    let status = parse_status(&request.status_code).unwrap_or_else(|fault| {
        faults.add("status_code", fault);
        None
    });
    let mut least = |field: &str, ms: f64| {
        if !ms.is_finite() || ms < 0.0 {
            faults.add(field, "must be milliseconds from 0 up");
        }
        Some(ms).filter(|ms| *ms > 0.0)
    };
    let min_response_time_ms = least("min_response_time_ms", request.min_response_time_ms);
    let min_upstream_time_ms = least("min_upstream_time_ms", request.min_upstream_time_ms);
    let min_ttfb_ms = least("min_ttfb_ms", request.min_ttfb_ms);
    let mut text = |field: &str, text: String| {
        if text.len() > MAX_TEXT {
            faults.add(field, format!("is longer than {MAX_TEXT} bytes"));
        }
        if text.chars().any(char::is_control) {
            faults.add(field, "holds a control character: remove it");
        }
        some_text(text)
    };
    let matching = EventMatch {
        key_id: text("key_id", request.key_id),
        source_path: text("source_path", request.source_path),
        path_prefix: text("path_prefix", request.path_prefix),
        path_contains: text("path_contains", request.path_contains),
        method: text("method", request.method),
        status,
        request_id: text("request_id", request.request_id),
        route_id: text("route_id", request.route_id),
        target_url: text("target_url", request.target_url),
        error: text("error", request.error),
        ip_address: text("ip_address", request.ip_address),
        user_agent_contains: text("user_agent_contains", request.user_agent_contains),
        node_id: text("node_id", request.node_id),
        rate_limited: request.rate_limited,
        secret_version: request.secret_version,
        min_attempts: Some(request.min_attempts).filter(|least| *least > 0),
        min_response_time_ms,
        min_upstream_time_ms,
        min_ttfb_ms,
        min_request_size: Some(request.min_request_size).filter(|least| *least > 0),
        min_response_size: Some(request.min_response_size).filter(|least| *least > 0),
    };
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
        ..ListLogsRequest::default()
    }
}

/// The list of what a tail shows.
pub(super) fn of_tail(request: TailLogsRequest) -> ListLogsRequest {
    ListLogsRequest {
        environment: request.environment,
        key_id: request.key_id,
        source_path: request.source_path,
        path_prefix: request.path_prefix,
        method: request.method,
        status_code: request.status_code,
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
        ..ListLogsRequest::default()
    }
}

/// `404` or `4xx`, as the first and last status meant.
pub(in crate::admin) fn parse_status(text: &str) -> Result<Option<(u16, u16)>, String> {
    let fault = || "must be a status such as '404' or a class such as '4xx'".to_owned();
    if text.is_empty() {
        return Ok(None);
    }
    let range = match text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        Some(class) => {
            let class: u16 = class.parse().map_err(|_| fault())?;
            let first = class.checked_mul(100).ok_or_else(fault)?;
            (first, first.saturating_add(99))
        }
        None => {
            let status = text.parse().map_err(|_| fault())?;
            (status, status)
        }
    };
    if (100..=599).contains(&range.0) { Ok(Some(range)) } else { Err(fault()) }
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
            assert_eq!(refused(text), 12, "{text:?}");
        }
    }

    #[test]
    fn a_status_is_one_or_a_class() {
        for (text, range) in [
            ("", Ok(None)),
            ("404", Ok(Some((404, 404)))),
            ("4xx", Ok(Some((400, 499)))),
            ("5XX", Ok(Some((500, 599)))),
            ("6xx", Err(())),
            ("xx", Err(())),
            ("99", Err(())),
            ("-1", Err(())),
            ("' OR 1=1", Err(())),
            ("65535xx", Err(())),
        ] {
            assert_eq!(parse_status(text).map_err(drop), range, "{text}");
        }
    }
}
