//! Makes a client's head into one for the upstream, and says which lines of an upstream's go to the
//! client.
//!
//! Hop-by-hop headers are removed both ways (RFC 9110 section 7.6.1). What the gateway says about
//! a request (who sent it, from where, under which id) replaces whatever the client said.

use std::net::IpAddr;

use http::uri::Scheme;
use smallvec::SmallVec;

use crate::{
    framing::Framing,
    head::{Kind, Line, Lines},
    network::Network,
    request::RequestHead,
};

/// The request's id, both ways.
pub(crate) const REQUEST_ID: &[u8] = b"x-request-id";

/// A client's end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Where the connection came from.
    pub(crate) address: IpAddr,
    /// HTTPS over TLS.
    scheme: Scheme,
    /// The address, ready to be sent upstream.
    text: Box<str>,
}

impl Peer {
    /// The other end of a connection from this address.
    pub(crate) fn new(address: IpAddr, scheme: Scheme) -> Self {
        Self { address, scheme, text: address.to_canonical().to_string().into() }
    }
}

/// What the gateway says about a request.
pub(crate) struct Said<'a> {
    /// Where the request came from.
    pub(crate) peer: &'a Peer,
    /// Whether that peer's forwarding headers are believed.
    pub(crate) peer_is_trusted: bool,
    /// The request's id.
    pub(crate) request_id: &'a [u8],
    /// The key's source path; `None` without a key.
    pub(crate) source_path: Option<&'a str>,
    /// Whether `Authorization` holds a key, which is not the upstream's business.
    pub(crate) bearer_is_key: bool,
}

/// What an upstream is asked for.
pub(crate) struct Addressed<'a> {
    /// What `Host` names.
    pub(crate) host: &'a [u8],
    /// The path of the target itself, before that of the request.
    pub(crate) base: &'a str,
    /// Of the request, as its route has it.
    pub(crate) path: &'a str,
    /// How the body will be sent.
    pub(crate) framing: Framing,
}

/// Writes the head of a request for an upstream.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    to: &Addressed<'_>,
    said: &Said<'_>,
) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(to.base.as_bytes());
    out.extend_from_slice(to.path.as_bytes());
    if let Some(query) = head.target.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    put_line(out, b"host", to.host);
    match to.framing {
        Framing::Absent => {}
        Framing::Length(length) => {
            put_line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Chunked | Framing::UntilClose => put_line(out, b"transfer-encoding", b"chunked"),
    }
    let named = named_by_connection(head.lines);
    let mut has_cookie = false;
    for line in head.lines.iter() {
        match line.kind {
            kind if stays(kind, said) || is_named(&named, line.name) => {}
            Kind::Cookie if has_cookie => {}
            Kind::Cookie => {
                has_cookie = true;
                put_joined(out, line.name, head.lines.values(Kind::Cookie), b"; ");
            }
            _ => put_line(out, line.name, line.value),
        }
    }
    put_forwarded(out, head, said);
    put_line(out, REQUEST_ID, said.request_id);
    if let Some(source_path) = said.source_path {
        put_line(out, b"x-source-path", source_path.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The lines of an upstream's answer that go to the client, all but those that say how long its
/// body is.
pub(crate) fn to_client(lines: Lines<'_>) -> impl Iterator<Item = Line<'_>> {
    let named = named_by_connection(lines);
    lines.iter().filter(move |line| match line.kind {
        Kind::Connection
        | Kind::ContentLength
        | Kind::HopByHop
        | Kind::Trailer
        | Kind::TransferEncoding => false,
        _ => !is_named(&named, line.name),
    })
}

/// Writes one line of a head.
pub(crate) fn put_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a client's line stays behind, or is written by the gateway.
fn stays(kind: Kind, said: &Said<'_>) -> bool {
    match kind {
        // The gateway answers expectations itself, and passes no trailers on: an upstream may take
        // them for headers. Who a key was issued to says the key.
        Kind::ApiKey
        | Kind::Connection
        | Kind::ContentLength
        | Kind::Expect
        | Kind::HopByHop
        | Kind::Host
        | Kind::RequestId
        | Kind::SourcePath
        | Kind::Trailer
        | Kind::TransferEncoding
        | Kind::Twin
        // Added to, and so written anew.
        | Kind::ForwardedFor => true,
        Kind::ForwardedHost | Kind::ForwardedProto | Kind::ForwardedOther => !said.peer_is_trusted,
        Kind::Authorization => said.bearer_is_key,
        // HTTP/2 may split them into several lines, HTTP/1.1 may not (RFC 9113 section 8.2.3).
        Kind::Cookie | Kind::Date | Kind::RateLimit | Kind::UserAgent | Kind::Other => false,
    }
}

/// Writes where a request came from. A trusted peer is believed, and added to.
fn put_forwarded(out: &mut Vec<u8>, head: &RequestHead<'_>, said: &Said<'_>) {
    let is_told = |kind| said.peer_is_trusted && head.lines.has(kind);
    let peer = said.peer.text.as_bytes();
    let before = head.lines.values(Kind::ForwardedFor).filter(|_| said.peer_is_trusted);
    put_joined(out, b"x-forwarded-for", before.chain([peer]), b", ");
    if !is_told(Kind::ForwardedProto) {
        put_line(out, b"x-forwarded-proto", said.peer.scheme.as_str().as_bytes());
    }
    if !is_told(Kind::ForwardedHost) {
        let host = head.lines.values(Kind::Host).next().or(head.target.authority);
        if let Some(host) = host {
            put_line(out, b"x-forwarded-host", host);
        }
    }
}

fn put_joined<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    values: impl Iterator<Item = &'a [u8]>,
    between: &[u8],
) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.extend_from_slice(between);
        }
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Seldom more than a few.
type Names<'a> = SmallVec<[&'a [u8]; 4]>;

/// What `Connection` says is of this connection alone.
fn named_by_connection(lines: Lines<'_>) -> Names<'_> {
    let says_how_it_ends = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
    };
    let named = lines.tokens(Kind::Connection);
    named.filter(|token| !says_how_it_ends(token) && !Kind::of(token).is_own()).collect()
}

fn is_named(named: &Names<'_>, name: &[u8]) -> bool {
    named.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The client's own address: the first, seen from here, that is no trusted proxy's.
pub(crate) fn client_address(lines: Lines<'_>, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut nearest = peer;
    for value in lines.values(Kind::ForwardedFor).rev() {
        for hop in str::from_utf8(value).unwrap_or_default().rsplit(',') {
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
pub(crate) fn sent_request_id(lines: Lines<'_>) -> Option<&[u8]> {
    let mut ids = lines.values(Kind::RequestId);
    let id = ids.next().filter(|_| ids.next().is_none())?;
    let fits =
        (1..=64).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    fits.then_some(id)
}
