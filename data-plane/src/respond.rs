//! Makes the answers the gateway gives itself; the only place a refusal becomes a response.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    error::Refusal,
    limits::{Standing, Standings},
};

/// Limits are written in requests a minute.
const WINDOW_SECONDS: u32 = 60;

/// A problem as RFC 9457 writes it.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
}

/// The answer to a refused request.
pub(crate) fn refuse(refusal: &Refusal, request_id: &HeaderValue) -> Response<Bytes> {
    let status = refusal.status();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: &refusal.to_string(),
        // It is made of letters, digits and '-' alone.
        request_id: request_id.to_str().unwrap_or_default(),
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
        Refusal::MethodNotAllowed(methods) => {
            let names: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(header::ALLOW, allow);
            }
        }
        Refusal::RateLimited { retry_after } => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
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

/// Says where the caller's limits stand (draft-ietf-httpapi-ratelimit-headers-10), in place of
/// whatever an upstream says about its own.
pub(crate) fn put_standings(standings: &Standings, headers: &mut HeaderMap) {
    let mut policies = String::new();
    let mut states = String::new();
    for Standing { name, quota, remaining, reset } in standings.iter() {
        let separator = if policies.is_empty() { "" } else { ", " };
        policies += &format!("{separator}\"{name}\";q={quota};w={}", WINDOW_SECONDS);
        states += &format!("{separator}\"{name}\";r={remaining};t={reset}");
    }
    if policies.is_empty() {
        return;
    }
    for (name, value) in [("ratelimit-policy", policies), ("ratelimit", states)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
