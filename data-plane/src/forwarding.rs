//! Makes a client's head into one for the upstream, and an upstream's into one for the client.
//!
//! Hop-by-hop headers are removed both ways (RFC 9110 section 7.6.1). What the gateway says about
//! a request (who sent it, from where, under which id) replaces whatever the client said.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::network::Network;

/// The header a key is sent in, beside `Authorization: Bearer`.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The request's id, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who the key was issued to.
const SOURCE_PATH: HeaderName = HeaderName::from_static("x-source-path");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers of one connection, not of a message.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy-authentication-info"),
];

/// What only a trusted proxy may say about a client, beside all that begins with `x-forwarded`.
const TOLD_BY_PROXIES: [&str; 9] = [
    "forwarded",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// What the gateway reads or sets: `Connection` can't name these away, and their twins written
/// with underscores, which CGI-like upstreams can't tell from them, are dropped.
const OWN: [HeaderName; 10] = [
    API_KEY,
    REQUEST_ID,
    SOURCE_PATH,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// What the gateway says about a request.
pub(crate) struct Said<'a> {
    /// The address the connection came from.
    pub(crate) peer: IpAddr,
    /// Whether that peer's forwarding headers are believed.
    pub(crate) peer_is_trusted: bool,
    /// The request's id.
    pub(crate) request_id: &'a HeaderValue,
    /// The key's source path; `None` without a key.
    pub(crate) source_path: Option<&'a HeaderValue>,
    /// The authority of an HTTP/2 request without a Host header.
    pub(crate) authority: Option<&'a str>,
}

/// Makes a client's headers into those for an upstream, all but Host, which each target has its own of.
pub(crate) fn to_upstream(headers: &mut HeaderMap, said: &Said<'_>) {
    remove_hop_by_hop(headers);
    remove_claims(headers, said.peer_is_trusted);
    join_cookies(headers);
    // The gateway answers expectations itself, and passes no trailers on: an upstream may take
    // them for headers.
    headers.remove(header::EXPECT);
    headers.remove(header::TRAILER);
    write_length_plainly(headers);
    let host = headers.remove(header::HOST);
    let host = host.or_else(|| HeaderValue::from_str(said.authority?).ok());
    if said.peer_is_trusted {
        append_peer(headers, said.peer);
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
    } else {
        append_peer(headers, said.peer);
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
    }
    headers.insert(REQUEST_ID, said.request_id.clone());
    match said.source_path {
        Some(source_path) => drop(headers.insert(SOURCE_PATH, source_path.clone())),
        None => drop(headers.remove(SOURCE_PATH)),
    }
}

/// Leaves of an upstream's headers those that are not of its connection alone.
pub(crate) fn from_upstream(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Adds what every answer says; `standings` replace what an upstream says about limits of its own.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &HeaderValue, standings: HeaderMap) {
    headers.insert(REQUEST_ID, request_id.clone());
    headers.extend(standings);
}

/// The client's own address: the first, seen from here, that is no trusted proxy's.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut nearest = peer;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for hop in line.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = hop.trim().parse() else { return nearest };
            nearest = address;
            if !is_trusted(address) {
                return nearest;
            }
        }
    }
    nearest
}

/// A request id of the client's, if it is one that can stand in every log.
pub(crate) fn sent_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    let id = ids.next().filter(|_| ids.next().is_none())?;
    let fits = (1..=64).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    fits.then_some(id)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !OWN.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes what a client can't say about itself, and underscore twins of what counts.
fn remove_claims(headers: &mut HeaderMap, peer_is_trusted: bool) {
    let is_told_by_proxies =
        |name: &str| name.starts_with("x-forwarded") || TOLD_BY_PROXIES.contains(&name);
    let is_claim = |name: &HeaderName| {
        let name = name.as_str();
        if name.contains('_') {
            let plain = name.replace('_', "-");
            is_told_by_proxies(&plain) || OWN.iter().any(|own| own.as_str() == plain)
        } else {
            !peer_is_trusted && is_told_by_proxies(name)
        }
    };
    let claims: Vec<_> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
    for claim in claims {
        headers.remove(claim);
    }
}

/// Hyper has read the length, but lets forms pass that others may read as octal or as two.
fn write_length_plainly(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, more) = (values.next(), values.next().is_some());
    let Some(text) = first.and_then(|first| first.to_str().ok()) else { return };
    let is_plain = !more && (text == "0" || !text.starts_with('0'));
    if !is_plain && let Ok(length) = text.parse::<u64>() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// HTTP/2 may split cookies into several lines, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

fn append_peer(headers: &mut HeaderMap, peer: IpAddr) {
    let mut chain = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_canonical().to_string().as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
}
