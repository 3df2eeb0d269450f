//! The head of an answer, as HTTP/1.1 and HTTP/1.0 have it.

use http::StatusCode;

use crate::{
    exchange::Exchange, forwarding::put_line, framing::Framing, head::Line, reply::Reply,
    request::Version, shared::Shared,
};

/// How the client can tell where an answer's body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By its head.
    Told,
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl End {
    /// Of this answer, to a client of this version.
    pub(super) fn of(reply: &Reply, version: Version) -> Self {
        match reply {
            Reply::Own(_) => Self::Told,
            Reply::Upstream(answer) => match answer.framing() {
                Framing::Absent | Framing::Length(_) => Self::Told,
                Framing::Chunked | Framing::UntilClose if version == Version::Http10 => Self::Close,
                Framing::Chunked | Framing::UntilClose => Self::Chunked,
            },
        }
    }
}

/// Writes the head of an answer. `goes_on`: another request may follow on the connection.
pub(super) fn put(
    out: &mut Vec<u8>,
    worker: &Shared,
    exchange: &Exchange,
    reply: &Reply,
    version: Version,
    goes_on: bool,
) {
    put_status_line(out, reply);
    reply.lines(worker, exchange, |name, value| put_line(out, name, value));
    match End::of(reply, version) {
        End::Told => reply.length_line(|name, value| put_line(out, name, value)),
        End::Chunked => put_line(out, b"transfer-encoding", b"chunked"),
        End::Close => {}
    }
    if version == Version::Http11 && reply.status() == StatusCode::UPGRADE_REQUIRED {
        put_upgrade(out, reply);
    }
    match version {
        _ if !goes_on => put_line(out, b"connection", b"close"),
        Version::Http10 => put_line(out, b"connection", b"keep-alive"),
        Version::Http11 | Version::Http2 => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn put_status_line(out: &mut Vec<u8>, reply: &Reply) {
    let status = reply.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match reply {
        Reply::Own(_) => status.canonical_reason().unwrap_or_default().as_bytes(),
        Reply::Upstream(answer) => answer.reason(),
    });
    out.extend_from_slice(b"\r\n");
}

/// What an upstream wants to be spoken, which a 426 has to say (RFC 9110 sections 7.8 and 15.5.22).
fn put_upgrade(out: &mut Vec<u8>, reply: &Reply) {
    let Reply::Upstream(answer) = reply else { return };
    let is_upgrade = |line: &Line<'_>| line.name.eq_ignore_ascii_case(b"upgrade");
    let mut lines = answer.lines().iter().filter(is_upgrade).peekable();
    let has_some = lines.peek().is_some();
    lines.for_each(|line| put_line(out, line.name, line.value));
    if has_some {
        put_line(out, b"connection", b"upgrade");
    }
}
