//! Why the gateway answers a request itself.
//!
//! Every refusal says whose fault it is through its status, has one name in the audit log and
//! one face to the client; the table is here, the answer is made in `respond`.

use std::time::Duration;

use fastgate::{audit::passed_limits, path::PathFault};
use http::{Method, StatusCode};
use thiserror::Error;

use crate::framing::Doubt;

/// Why a request is not answered by an upstream. The text is what the client reads.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The request is not one that everyone on its way reads the same.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The request head, its target included, is larger than the gateway takes, or has more lines.
    #[error("the request head is too large: send a shorter target, or fewer or shorter headers")]
    HeadTooLarge,
    /// The client did not send its head to the end.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// There is no snapshot yet.
    #[error("the gateway has no configuration yet")]
    NotReady,
    /// There is no room for its audit event, and the setting is to refuse it.
    #[error("the gateway can't record requests at the moment")]
    AuditSpoolFull,
    /// No route is for this host and path.
    #[error("no route matches this host and path")]
    NoRoute,
    /// Routes of this host and path are for these methods.
    #[error("this path does not take this method")]
    MethodNotAllowed(Vec<Method>),
    /// A key is asked for, and none was sent.
    #[error("a valid API key is needed")]
    KeyMissing,
    /// What was sent opens nothing.
    #[error("a valid API key is needed")]
    KeyUnknown,
    /// The key was revoked.
    #[error("a valid API key is needed")]
    KeyRevoked,
    /// The key or the secret that was sent has expired.
    #[error("a valid API key is needed")]
    KeyExpired,
    /// The key does not hold what the route asks for.
    #[error("the API key lacks a permission this path needs")]
    PermissionMissing,
    /// A limit is used up.
    #[error("too many requests: the limit is used up for now")]
    RateLimited {
        /// When it would be admitted.
        retry_after: Duration,
        /// What the limits are called that are used up.
        violated: Vec<Box<str>>,
    },
    /// A limit can't be counted, and its fallback is to refuse.
    #[error("the request limit can't be checked at the moment")]
    LimitsUnavailable,
    /// The request body is larger than the gateway takes.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// The client stopped sending its body.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The client's body ended before its end.
    #[error("the request body broke off")]
    BodyBroken,
    /// The client said its last before there was an answer, and is sent none.
    #[error("the client is gone")]
    ClientGone,
    /// No connection to a target could be made.
    #[error("the upstream can't be reached")]
    Unreachable,
    /// The target closed the connection, or spoke no HTTP, before it answered.
    #[error("the upstream broke the connection off")]
    Reset,
    /// The upstream did not answer in time.
    #[error("the upstream did not answer in time")]
    UpstreamTimeout,
}

impl From<Doubt> for Refusal {
    fn from(doubt: Doubt) -> Self {
        Self::Malformed(match doubt {
            Doubt::ContentLength => Malformed::ContentLength,
            Doubt::TransferEncoding => Malformed::TransferEncoding,
        })
    }
}

/// What is wrong with a request's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum Malformed {
    /// It is no HTTP/1.1 head (RFC 9112 sections 2 to 6).
    #[error("the request head is malformed")]
    Head,
    /// RFC 9112 section 3.2.
    #[error("exactly one Host header is needed")]
    HostCount,
    /// Not `host` or `host:port`.
    #[error("the Host header is malformed")]
    Host,
    /// The request target names another host than the Host header.
    #[error("the request target and the Host header name different hosts")]
    HostMismatch,
    /// Neither a path, an absolute URI nor `*` with OPTIONS.
    #[error("the request target is malformed")]
    Target,
    /// See [`fastgate::path`].
    #[error("{0}")]
    Path(#[from] PathFault),
    /// No number, or several that differ (RFC 9112 section 6.3).
    #[error("the Content-Length is malformed, or said twice in different ways")]
    ContentLength,
    /// RFC 9112 section 6.1: anything but a lone `chunked`.
    #[error("the Transfer-Encoding is not supported")]
    TransferEncoding,
    /// Two keys in one request: which one counts would be a guess.
    #[error("the request holds more than one API key: send one")]
    TwoKeys,
}

impl Malformed {
    /// Whether another server might read the end of the request elsewhere, so that nothing more
    /// may be read from its connection (RFC 9112 section 6.3).
    pub(crate) fn is_of_framing(self) -> bool {
        match self {
            Self::Head
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::HostCount
            | Self::Host => true,
            Self::HostMismatch | Self::Target | Self::Path(_) | Self::TwoKeys => false,
        }
    }
}

/// What is noted in place of a status when there was nobody left to be sent one.
pub(crate) fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Refusal {
    /// The status the client sees.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::KeyMissing | Self::KeyUnknown | Self::KeyRevoked | Self::KeyExpired => {
                StatusCode::UNAUTHORIZED
            }
            Self::PermissionMissing => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ClientGone => client_gone(),
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unreachable | Self::Reset => StatusCode::BAD_GATEWAY,
            Self::NotReady | Self::AuditSpoolFull | Self::LimitsUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What the audit log calls it; finer than what the client is told.
    pub(crate) fn audit_name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::NotReady => "not_ready",
            Self::AuditSpoolFull => "audit_spool_full",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::KeyMissing => "key_missing",
            Self::KeyUnknown => "key_unknown",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::PermissionMissing => "permission_missing",
            Self::RateLimited { .. } => "rate_limited",
            Self::LimitsUnavailable => "limits_unavailable",
            Self::BodyTooLarge => passed_limits::BODY_TOO_LARGE,
            Self::BodyTimeout => passed_limits::BODY_TIMEOUT,
            Self::BodyBroken => passed_limits::BODY_BROKEN,
            Self::ClientGone => passed_limits::CLIENT_GONE,
            Self::Unreachable => passed_limits::UPSTREAM_UNREACHABLE,
            Self::Reset => passed_limits::UPSTREAM_RESET,
            Self::UpstreamTimeout => passed_limits::UPSTREAM_TIMEOUT,
        }
    }
}
