//! The audit log, as users search it.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{ListLogsRequest, ListLogsResponse, log_service_server::LogService},
    model::{Id, Violations},
};
use tonic::{Request, Response, Status};

use super::{Admin, page::Paging, some_text, time};
use crate::{domain::EventFilter, error::Error};

/// How far back the list reaches when the request names no time.
const WINDOW: Duration = Duration::from_secs(3600);
/// How far ahead of this clock a node's clock may be for its events to be listed as of now.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Bytes of any text that is searched for.
const MAX_TEXT: usize = 2048;

#[tonic::async_trait]
impl LogService for Admin {
    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        let request = request.into_inner();
        let environment = self.environment(&request.environment, "").await?;
        let times = format!("{:?} {:?}", request.start_time, request.end_time);
        let list = [
            "logs",
            environment.as_str(),
            &request.key_id,
            &request.source_path,
            &request.path_prefix,
            &request.method,
            &request.status_code,
            &request.request_id,
            &request.route_id,
            &times,
        ];
        let paging = Paging::parse(request.page_size, &request.page_token, &list)?;
        let filter = parse(environment, request, SystemTime::now())?;
        let found = self.store.events(&filter, &paging.query()).await.map_err(Error::from)?;
        let (page, next_page_token) = paging.cut(found, |(cursor, _)| cursor.clone());
        let logs = page.into_iter().map(|(_, event)| event).collect();
        Ok(Response::new(ListLogsResponse { logs, next_page_token }))
    }
}

fn parse(environment: Id, request: ListLogsRequest, now: SystemTime) -> Result<EventFilter, Error> {
    let mut faults = Violations::default();
    let start = time("start_time", request.start_time, &mut faults);
    let end = time("end_time", request.end_time, &mut faults);
    let until = end.unwrap_or(now + CLOCK_SKEW);
    let from = match (start, end) {
        (Some(start), _) => start,
        (None, Some(_)) => SystemTime::UNIX_EPOCH,
        (None, None) => now - WINDOW,
    };
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        faults.add("end_time", "is before start_time: swap them or leave one out");
    }
    let status = parse_status(&request.status_code).unwrap_or_else(|fault| {
        faults.add("status_code", fault);
        None
    });
    let mut text = |field: &str, text: String| {
        if text.len() > MAX_TEXT {
            faults.add(field, format!("is longer than {MAX_TEXT} bytes"));
        }
        if text.chars().any(char::is_control) {
            faults.add(field, "holds a control character: remove it");
        }
        some_text(text)
    };
    let filter = EventFilter {
        environment,
        from,
        until,
        key_id: text("key_id", request.key_id),
        source_path: text("source_path", request.source_path),
        path_prefix: text("path_prefix", request.path_prefix),
        method: text("method", request.method),
        status,
        request_id: text("request_id", request.request_id),
        route_id: text("route_id", request.route_id),
    };
    Ok(faults.or(filter)?)
}

/// `404` or `4xx`, as the first and last status meant.
fn parse_status(text: &str) -> Result<Option<(u16, u16)>, String> {
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
        assert_eq!(window(None, Some(9)).expect("a window"), (at(0), at(9)));
        assert_eq!(window(Some(5), Some(9)).expect("a window"), (at(5), at(9)));
        assert!(window(Some(9), Some(5)).is_err());
    }

    #[test]
    fn texts_are_bounded_and_on_one_line() {
        let refused = |text: &str| {
            let text = || text.to_owned();
            let request = ListLogsRequest {
                key_id: text(),
                source_path: text(),
                path_prefix: text(),
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
            assert_eq!(refused(text), 6, "{text:?}");
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
