//! Makes the answers the gateway gives itself; the only place a refusal becomes a response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::error::Refusal;

/// A problem as RFC 9457 writes it.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated_policies: &'a [Box<str>],
}

/// Limits that are used up, as draft-ietf-httpapi-ratelimit-headers-10 section 6.1 names the problem.
const QUOTA_EXCEEDED: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "Request cannot be satisfied as assigned quota has been exceeded",
);

/// The answer to a refused request.
pub(crate) fn refuse(refusal: &Refusal, request_id: &[u8]) -> Response<Bytes> {
    let status = refusal.status();
    let about_status = ("about:blank", status.canonical_reason().unwrap_or_default());
    let ((r#type, title), violated_policies) = match refusal {
        Refusal::RateLimited { violated, .. } => (QUOTA_EXCEEDED, &violated[..]),
        _ => (about_status, &[][..]),
    };
    let problem = Problem {
        r#type,
        title,
        status: status.as_u16(),
        detail: &refusal.to_string(),
        // It is made of letters, digits and '-' alone.
        request_id: str::from_utf8(request_id).unwrap_or_default(),
        violated_policies,
    };
    // Strings and numbers alone can't fail to be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // An answer about one caller must never be given to another one.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refusal {
        // Where its body ends is in doubt, so what comes next might be part of it.
        Refusal::Malformed(fault) if fault.is_of_framing() => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Refusal::MethodNotAllowed(methods) => {
            let names: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(header::ALLOW, allow);
            }
        }
        Refusal::RateLimited { retry_after, .. } => {
            // Rounded up: a client that comes back by it must find room.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        _ if status == StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Bearer realm=\"fastgate\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        _ => {}
    }
    response
}

/// The answer to `OPTIONS *`: it asks about the server itself (RFC 9110 section 9.3.7).
pub(crate) fn server_options() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::error::Malformed;

    #[test]
    fn refusals_look_as_documented() {
        let id = b"id-1";
        let mut shown = String::new();
        for refusal in [
            Refusal::Malformed(Malformed::HostCount),
            Refusal::KeyMissing,
            Refusal::PermissionMissing,
            Refusal::NoRoute,
            Refusal::MethodNotAllowed(vec![Method::GET, Method::PUT]),
            Refusal::BodyTimeout,
            Refusal::BodyTooLarge,
            Refusal::HeadTooLarge,
            Refusal::RateLimited {
                retry_after: Duration::from_secs(7),
                violated: vec!["key".into(), "daily".into()],
            },
            Refusal::Unreachable,
            Refusal::NotReady,
            Refusal::UpstreamTimeout,
        ] {
            let response = refuse(&refusal, id);
            shown += &format!("{} {}\n", response.status().as_u16(), refusal.audit_name());
            for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
                if let Some(value) = response.headers().get(&name) {
                    shown += &format!("{name}: {}\n", value.to_str().expect("text"));
                }
            }
            shown += &format!("{}\n", String::from_utf8_lossy(response.body()));
        }
        insta::assert_snapshot!(shown, @r#"
        400 malformed
        {"type":"about:blank","title":"Bad Request","status":400,"detail":"exactly one Host header is needed","request_id":"id-1"}
        401 key_missing
        www-authenticate: Bearer realm="fastgate"
        {"type":"about:blank","title":"Unauthorized","status":401,"detail":"a valid API key is needed","request_id":"id-1"}
        403 permission_missing
        {"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key lacks a permission this path needs","request_id":"id-1"}
        404 no_route
        {"type":"about:blank","title":"Not Found","status":404,"detail":"no route matches this host and path","request_id":"id-1"}
        405 method_not_allowed
        allow: GET, PUT
        {"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"this path does not take this method","request_id":"id-1"}
        408 body_timeout
        {"type":"about:blank","title":"Request Timeout","status":408,"detail":"the request body did not arrive in time","request_id":"id-1"}
        413 body_too_large
        {"type":"about:blank","title":"Payload Too Large","status":413,"detail":"the request body is too large","request_id":"id-1"}
        431 head_too_large
        {"type":"about:blank","title":"Request Header Fields Too Large","status":431,"detail":"the request head is too large: send a shorter target, or fewer or shorter headers","request_id":"id-1"}
        429 rate_limited
        retry-after: 7
        {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Request cannot be satisfied as assigned quota has been exceeded","status":429,"detail":"too many requests: the limit is used up for now","request_id":"id-1","violated-policies":["key","daily"]}
        502 upstream_unreachable
        {"type":"about:blank","title":"Bad Gateway","status":502,"detail":"the upstream can't be reached","request_id":"id-1"}
        503 not_ready
        {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the gateway has no configuration yet","request_id":"id-1"}
        504 upstream_timeout
        {"type":"about:blank","title":"Gateway Timeout","status":504,"detail":"the upstream did not answer in time","request_id":"id-1"}
        "#);
    }

    #[test]
    fn no_answer_tells_what_is_wrong_with_a_key() {
        let id = b"id-1";
        let refusals =
            [Refusal::KeyMissing, Refusal::KeyUnknown, Refusal::KeyRevoked, Refusal::KeyExpired];
        let mut faces: Vec<_> = refusals
            .iter()
            .map(|refusal| refuse(refusal, id))
            .map(|response| (response.status(), response.headers().clone(), response.into_body()))
            .collect();
        faces.dedup();
        assert_eq!(faces.len(), 1);
    }
}
