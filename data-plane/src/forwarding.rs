//! Makes a client's head into one for the upstream, and an upstream's into one for the client.
//!
//! Hop-by-hop headers are removed both ways (RFC 9110 section 7.6.1). What the gateway says about
//! a request (who sent it, from where, under which id) replaces whatever the client said.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

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

/// A client's end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Where the connection came from.
    pub(crate) address: IpAddr,
    /// The same, ready to be sent upstream.
    text: HeaderValue,
}

impl Peer {
    /// The other end of a connection from this address.
    pub(crate) fn new(address: IpAddr) -> Self {
        let text = HeaderValue::from_str(&address.to_canonical().to_string());
        Self { address, text: text.unwrap_or(HeaderValue::from_static("unknown")) }
    }
}

/// What the gateway says about a request.
pub(crate) struct Said<'a> {
    /// Where the request came from.
    pub(crate) peer: &'a Peer,
    /// Whether that peer's forwarding headers are believed.
    pub(crate) peer_is_trusted: bool,
    /// The request's id.
    pub(crate) request_id: &'a HeaderValue,
    /// The key's source path; `None` without a key.
    pub(crate) source_path: Option<&'a str>,
    /// The authority of an HTTP/2 request without a Host header.
    pub(crate) authority: Option<&'a str>,
}

/// Makes a client's headers into those for an upstream, all but Host, which each target has its own of.
pub(crate) fn to_upstream(headers: &mut HeaderMap, said: &Said<'_>) {
    // Looked through once: asking for each name that matters would cost a search each.
    let mut gone = Names::new();
    let (mut names_others, mut has_cookies, mut has_length) = (false, false, false);
    for name in headers.keys() {
        match name.as_str() {
            "connection" => names_others = true,
            "cookie" => has_cookies = true,
            "content-length" => has_length = true,
            name_text if goes(name_text, said.peer_is_trusted) => gone.push(name.clone()),
            _ => {}
        }
    }
    if names_others {
        remove_named(headers);
    }
    gone.iter().for_each(|name| drop(headers.remove(name)));
    if has_cookies {
        join_cookies(headers);
    }
    if has_length {
        write_length_plainly(headers);
    }
    let host = headers.remove(header::HOST);
    let host = host.or_else(|| HeaderValue::from_str(said.authority?).ok());
    append_peer(headers, said.peer);
    if said.peer_is_trusted {
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
    } else {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
    }
    headers.insert(REQUEST_ID, said.request_id.clone());
    if let Some(Ok(source_path)) = said.source_path.map(HeaderValue::from_str) {
        headers.insert(SOURCE_PATH, source_path);
    }
}

/// Leaves of an upstream's headers those that are not of its connection alone.
pub(crate) fn from_upstream(headers: &mut HeaderMap) {
    let mut gone = Names::new();
    let mut names_others = false;
    for name in headers.keys() {
        match name.as_str() {
            "connection" => names_others = true,
            name_text if is_hop_by_hop(name_text) => gone.push(name.clone()),
            _ => {}
        }
    }
    if names_others {
        remove_named(headers);
    }
    gone.iter().for_each(|name| drop(headers.remove(name)));
}

/// Seldom more than a few.
type Names = SmallVec<[HeaderName; 4]>;

/// Headers of one connection, not of a message, beside `Connection` itself.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether a client's header stays behind.
fn goes(name: &str, peer_is_trusted: bool) -> bool {
    match name {
        // The gateway answers expectations itself, and passes no trailers on: an upstream may take
        // them for headers. Who a key was issued to says the key.
        "expect" | "trailer" | "x-source-path" => true,
        _ if is_hop_by_hop(name) => true,
        // Twins written with underscores, which CGI-like upstreams can't tell from the real ones.
        _ if name.as_bytes().contains(&b'_') => {
            let plain = name.replace('_', "-");
            is_told_by_proxies(&plain) || is_own(&plain)
        }
        _ => !peer_is_trusted && is_told_by_proxies(name),
    }
}

/// What only a trusted proxy may say about a client.
fn is_told_by_proxies(name: &str) -> bool {
    name.starts_with("x-forwarded")
        || matches!(
            name,
            "forwarded"
                | "front-end-https"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-host"
                | "x-original-url"
                | "x-real-ip"
                | "x-rewrite-url"
        )
}

/// What the gateway reads or sets, so that `Connection` can't name it away.
fn is_own(name: &str) -> bool {
    matches!(
        name,
        "x-api-key"
            | "x-request-id"
            | "x-source-path"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "host"
            | "authorization"
            | "content-length"
            | "transfer-encoding"
    )
}

/// Removes `Connection`, and what it names.
fn remove_named(headers: &mut HeaderMap) {
    let mut named = Names::new();
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let says_how_it_ends = |word: &[u8]| token.eq_ignore_ascii_case(word);
            if says_how_it_ends(b"keep-alive") || says_how_it_ends(b"close") {
                continue;
            }
            let name = HeaderName::from_bytes(token).ok();
            named.extend(name.filter(|name| !is_own(name.as_str())));
        }
    }
    headers.remove(header::CONNECTION);
    named.iter().for_each(|name| drop(headers.remove(name)));
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

fn append_peer(headers: &mut HeaderMap, peer: &Peer) {
    if !headers.contains_key(FORWARDED_FOR) {
        headers.insert(FORWARDED_FOR, peer.text.clone());
        return;
    }
    let mut chain = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.text.as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
}
