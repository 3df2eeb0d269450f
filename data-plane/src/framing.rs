//! Reads what a request is about from its head, and refuses heads that two servers could read
//! differently (RFC 9112 sections 3.2 and 6).
//!
//! Hyper has parsed the head before. It refuses differing or malformed Content-Length headers
//! and a Transfer-Encoding that does not end in `chunked`; where both headers are there it
//! follows Transfer-Encoding, drops Content-Length and closes the connection after the answer. It
//! cuts a fragment off, so that what is matched is what is forwarded even where the line it was in
//! was not seen, see `request_line`.

use std::borrow::Cow;

use fastgate::path;
use http::{HeaderMap, Method, Uri, header, request};

use crate::error::Malformed;

/// What a request asks for.
pub(crate) enum Asked<'a> {
    /// A resource.
    Resource {
        /// In lower case, without port and trailing dot.
        host: Cow<'a, str>,
        /// Without the query.
        path: &'a str,
    },
    /// `OPTIONS *`: the server itself.
    Server,
    /// CONNECT: a tunnel, which no route gives.
    Tunnel,
}

/// Reads a head. The path is checked as if `%2F` could be allowed: whether it is, the route says.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(head: &request::Parts, has_fragment: bool) -> Result<Asked<'_>, Malformed> {
    check_transfer_encoding(&head.headers)?;
    check_content_length(&head.headers)?;
    if has_fragment {
        return Err(Malformed::Target);
    }
    if head.method == Method::CONNECT {
        return Ok(Asked::Tunnel);
    }
    let host = host_of(authority(head)?).ok_or(Malformed::Host)?;
    let path = head.uri.path();
    if path == "*" {
        return match head.method {
            Method::OPTIONS => Ok(Asked::Server),
            _ => Err(Malformed::Target),
        };
    }
    path::check(path.as_bytes(), true)?;
    Ok(Asked::Resource { host, path })
}

/// Hyper does this for HTTP/1, not for HTTP/2.
fn check_content_length(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = values.next();
    if values.all(|value| Some(value) == first) { Ok(()) } else { Err(Malformed::ContentLength) }
}

/// The authority both the request target and the Host header name.
fn authority(head: &request::Parts) -> Result<&str, Malformed> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::HostCount);
    }
    let host = host.map(|host| host.to_str().map_err(|_| Malformed::Host)).transpose()?;
    match (host, target_authority(&head.uri)?) {
        (Some(host), None) => Ok(host),
        (Some(host), Some(target)) if host.eq_ignore_ascii_case(target) => Ok(host),
        (Some(_), Some(_)) => Err(Malformed::HostMismatch),
        // HTTP/2 has `:authority` in place of Host (RFC 9113 section 8.3.1).
        (None, Some(target)) if head.version == http::Version::HTTP_2 => Ok(target),
        (None, _) => Err(Malformed::HostCount),
    }
}

/// The authority of a target in absolute form.
fn target_authority(uri: &Uri) -> Result<Option<&str>, Malformed> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(None),
        (Some("http" | "https"), Some(authority)) => Ok(Some(authority.as_str())),
        _ => Err(Malformed::Target),
    }
}

/// The host of `host[:port]`, `None` when it is neither a name nor an address.
fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let is_port =
        |text: &str| text.is_empty() || (!text.starts_with('+') && text.parse::<u16>().is_ok());
    let (host, port) = match authority.rfind(':') {
        // The last colon of a bare IPv6 address stands within its brackets.
        Some(at) if !authority.ends_with(']') => (authority.get(..at)?, authority.get(at + 1..)?),
        _ => (authority, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_address = || {
        let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inside.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = || {
        let mut before = b'.';
        let is_sound = host.bytes().all(|b| {
            let is_sound = b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'_')
                || (b == b'.' && before != b'.');
            before = b;
            is_sound
        });
        is_sound && before != b'.'
    };
    if !is_port(port) || host.len() > 253 || !(is_name() || is_address()) {
        return None;
    }
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Whatever a coding before `chunked` says would be lost on the way: only the lone word passes.
pub(crate) fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Malformed::TransferEncoding),
    }
}
