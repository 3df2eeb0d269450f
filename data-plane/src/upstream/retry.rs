//! Whether a failed attempt may be made again.
//!
//! A request goes out again only when that can't do harm: nothing of it was sent, or its method
//! is idempotent (RFC 9110 section 9.2.2) and it has no body, so that all of it can be replayed.

use http::{Method, StatusCode};

/// How an attempt ended without a useful answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// The connection was lost before anything was sent on it.
    NothingSent,
    /// An idle connection turned out to be closed when it was used again.
    Stale,
    /// The connection broke before the response head.
    Reset,
    /// The upstream answered, with this.
    Status(StatusCode),
}

/// What follows from a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The client gets to know.
    GiveUp,
    /// Another attempt, counted.
    Again,
    /// Another attempt that costs nothing: this one never had a chance.
    AgainForFree,
}

/// What one request may still do.
pub(crate) struct Budget {
    /// Further attempts.
    pub(crate) left: u32,
    /// Whether all of the request can be sent again without harm.
    pub(crate) replayable: bool,
}

impl Budget {
    /// What a request may do at its start.
    pub(crate) fn new(method: &Method, has_body: bool, retries: u32) -> Self {
        Self { left: retries, replayable: method.is_idempotent() && !has_body }
    }

    /// Says what follows, and takes a counted attempt off the budget.
    pub(crate) fn after(&mut self, failure: Failure) -> Next {
        let may_repeat = match failure {
            Failure::NothingSent => return Next::AgainForFree,
            Failure::Stale if self.replayable => return Next::AgainForFree,
            Failure::Connect => true,
            Failure::Stale | Failure::Reset => self.replayable,
            Failure::Status(status) => self.replayable && is_gateway_trouble(status),
        };
        match self.left.checked_sub(1) {
            Some(left) if may_repeat => {
                self.left = left;
                Next::Again
            }
            _ => Next::GiveUp,
        }
    }
}

/// 502, 503 and 504: another target may do better.
fn is_gateway_trouble(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use super::{Failure::*, Next::*, *};

    #[test]
    fn a_request_goes_out_again_only_where_that_does_no_harm() {
        let bad = Status(StatusCode::BAD_GATEWAY);
        let fault = Status(StatusCode::INTERNAL_SERVER_ERROR);
        for (method, has_body, retries, failure, next) in [
            ("GET", false, 1, Connect, Again),
            ("GET", false, 1, Reset, Again),
            ("GET", false, 1, bad, Again),
            ("GET", false, 1, Status(StatusCode::SERVICE_UNAVAILABLE), Again),
            ("GET", false, 1, Status(StatusCode::GATEWAY_TIMEOUT), Again),
            ("GET", false, 1, fault, GiveUp),
            ("GET", false, 0, Reset, GiveUp),
            ("GET", false, 0, Connect, GiveUp),
            ("GET", false, 0, Stale, AgainForFree),
            ("GET", false, 0, NothingSent, AgainForFree),
            ("DELETE", false, 1, Reset, Again),
            ("PUT", true, 1, Reset, GiveUp),
            ("PUT", true, 1, bad, GiveUp),
            ("PUT", true, 1, Connect, Again),
            ("PUT", true, 0, NothingSent, AgainForFree),
            ("PUT", true, 1, Stale, GiveUp),
            ("POST", false, 1, Reset, GiveUp),
            ("POST", false, 1, bad, GiveUp),
            ("POST", false, 1, Stale, GiveUp),
            ("POST", true, 1, Connect, Again),
            ("POST", true, 0, NothingSent, AgainForFree),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let mut budget = Budget::new(&method, has_body, retries);
            let got = budget.after(failure);
            assert_eq!(got, next, "{method} body={has_body} retries={retries} {failure:?}");
            assert_eq!(budget.left, if next == Again { retries - 1 } else { retries });
        }
    }
}
