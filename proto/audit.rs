//! What both planes hold of audit events: which of them match a filter, and what a batch may be.

use crate::{
    admin::v1::{ListLogsRequest, LogEvent, TailLogsRequest},
    model::Violations,
};

/// Metadata of a refused stream of batches: the number of the batch (its `first_seq`) that will never
/// be stored as it is. A refusal without it may pass.
pub const REFUSED_BATCH: &str = "fastgate-refused-batch";

/// Gaps one batch tells of at most.
pub const GAPS: usize = 256;

/// Tails one control plane serves at a time, and a node.
pub const TAILS: usize = 64;

/// What the audit log calls errors of requests that passed their limits. Any other error says why a
/// request never got that far.
pub mod passed_limits {
    /// The request body is larger than the gateway takes.
    pub const BODY_TOO_LARGE: &str = "body_too_large";
    /// The client stopped sending its body.
    pub const BODY_TIMEOUT: &str = "body_timeout";
    /// The client's body ended before its end.
    pub const BODY_BROKEN: &str = "body_broken";
    /// The client went away before it had its answer.
    pub const CLIENT_GONE: &str = "client_gone";
    /// No connection to a target could be made.
    pub const UPSTREAM_UNREACHABLE: &str = "upstream_unreachable";
    /// The target broke the connection off.
    pub const UPSTREAM_RESET: &str = "upstream_reset";
    /// The target did not answer, or not on, in time.
    pub const UPSTREAM_TIMEOUT: &str = "upstream_timeout";

    /// All of them.
    pub const ALL: [&str; 7] = [
        BODY_TOO_LARGE,
        BODY_TIMEOUT,
        BODY_BROKEN,
        CLIENT_GONE,
        UPSTREAM_UNREACHABLE,
        UPSTREAM_RESET,
        UPSTREAM_TIMEOUT,
    ];
}

/// Bytes of any text that is searched for.
const MAX_TEXT: usize = 2048;

/// What events must be like; absent fields ask nothing.
#[derive(Clone, Default, PartialEq, Debug)]
#[allow(missing_docs, reason = "they are the fields of the API")]
pub struct EventMatch {
    pub key_id: Option<String>,
    pub source_path: Option<String>,
    pub path_prefix: Option<String>,
    pub path_contains: Option<String>,
    pub method: Option<String>,
    /// First and last status, both included.
    pub status: Option<(u16, u16)>,
    pub request_id: Option<String>,
    pub route_id: Option<String>,
    pub target_url: Option<String>,
    pub error: Option<String>,
    pub ip_address: Option<String>,
    pub user_agent_contains: Option<String>,
    pub node_id: Option<String>,
    pub rate_limited: Option<bool>,
    pub secret_version: Option<u32>,
    pub min_attempts: Option<u32>,
    pub min_response_time_ms: Option<f64>,
    pub min_upstream_time_ms: Option<f64>,
    pub min_ttfb_ms: Option<f64>,
    pub min_request_size: Option<u64>,
    pub min_response_size: Option<u64>,
    pub response_end: Option<String>,
    pub min_response_chunks: Option<u32>,
}

impl EventMatch {
    /// Takes the filters of a request, but for its environment and times, and notes their faults.
    pub fn parse(request: ListLogsRequest, faults: &mut Violations) -> Self {
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
        if !["", "complete", "client_gone", "upstream_broke_off"].contains(&&*request.response_end)
        {
            faults.add("response_end", "must be 'complete', 'client_gone' or 'upstream_broke_off'");
        }
        let mut text = |field: &str, text: String| {
            if text.len() > MAX_TEXT {
                faults.add(field, format!("is longer than {MAX_TEXT} bytes"));
            }
            if text.chars().any(char::is_control) {
                faults.add(field, "holds a control character: remove it");
            }
            Some(text).filter(|text| !text.is_empty())
        };
        Self {
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
            response_end: Some(request.response_end).filter(|end| !end.is_empty()),
            min_response_chunks: Some(request.min_response_chunks).filter(|least| *least > 0),
        }
    }

    /// What a tail shows.
    ///
    /// # Errors
    /// The faults of its filters.
    pub fn of_tail(request: TailLogsRequest) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let asked = Self::parse(list_of_tail(request), &mut faults);
        faults.or(asked)
    }

    /// Whether an event is as asked: the same that the store answers in SQL, where numbers are kept
    /// in columns that end earlier.
    #[must_use]
    pub fn matches(&self, event: &LogEvent) -> bool {
        let equal = [
            (&self.key_id, &event.key_id),
            (&self.source_path, &event.source_path),
            (&self.method, &event.method),
            (&self.request_id, &event.request_id),
            (&self.route_id, &event.route_id),
            (&self.target_url, &event.target_url),
            (&self.error, &event.error),
            (&self.ip_address, &event.ip_address),
            (&self.node_id, &event.node_id),
            (&self.response_end, &event.response_end),
        ];
        let within =
            [(&self.path_contains, &event.path), (&self.user_agent_contains, &event.user_agent)];
        let least = [
            (self.min_attempts.map(u64::from), u64::from(narrow(event.attempts).unsigned_abs())),
            (self.min_request_size, event.request_size),
            (self.min_response_size, event.response_size),
            (self.min_response_chunks.map(u64::from), event.response_chunks.into()),
        ];
        let longest = [
            (self.min_response_time_ms, event.response_time_ms),
            (self.min_upstream_time_ms, event.upstream_time_ms),
            (self.min_ttfb_ms, event.ttfb_ms),
        ];
        let capped = |number: u64| number.min(i64::MAX as u64);
        let status = u16::try_from(narrow(event.status_code)).unwrap_or_default();
        equal.into_iter().all(|(asked, is)| asked.as_ref().is_none_or(|asked| asked == is))
            && self.path_prefix.as_ref().is_none_or(|prefix| event.path.starts_with(prefix))
            && within
                .into_iter()
                .all(|(asked, is)| asked.as_ref().is_none_or(|asked| is.contains(asked)))
            && self.status.is_none_or(|(first, last)| (first..=last).contains(&status))
            && self.rate_limited.is_none_or(|asked| asked == event.rate_limited)
            && self.secret_version.is_none_or(|asked| asked == event.secret_version)
            && least
                .into_iter()
                .all(|(least, is)| least.is_none_or(|least| capped(is) >= capped(least)))
            && longest.into_iter().all(|(least, is)| least.is_none_or(|least| is >= least))
    }
}

/// A status or a count as the store keeps it.
#[must_use]
pub fn narrow(number: i32) -> i16 {
    number.clamp(0, i16::MAX.into()).try_into().unwrap_or(i16::MAX)
}

/// The list of what a tail shows.
#[must_use]
pub fn list_of_tail(request: TailLogsRequest) -> ListLogsRequest {
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
        response_end: request.response_end,
        min_response_chunks: request.min_response_chunks,
        ..ListLogsRequest::default()
    }
}

/// `404` or `4xx`, as the first and last status meant.
///
/// # Errors
/// What it must be.
pub fn parse_status(text: &str) -> Result<Option<(u16, u16)>, String> {
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
    use super::*;

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
