//! One request, as the node that answered it saw it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::model::Id;
use http::{Method, StatusCode};

use crate::{keys::HeldKey, recorded::Recorded};

/// One request, in the form the request path has it at hand: nothing is formatted or looked up
/// to build it. Node and environment are added when it is shipped.
#[derive(Debug)]
pub(crate) struct Event {
    /// When the request head had been read.
    pub(crate) timestamp: SystemTime,
    /// What the client wrote.
    pub(crate) texts: Texts,
    /// The key that was sent, if it is known; also when it was refused.
    pub(crate) key: Option<HeldKey>,
    /// Which secret of the key was used; 0 without a key.
    pub(crate) secret_version: u32,
    /// The route that matched.
    pub(crate) route_id: Option<Id>,
    /// The request's method.
    pub(crate) method: Method,
    /// The target of the last attempt, also when no connection was made; `None`: none was tried.
    pub(crate) target_url: Option<Arc<str>>,
    /// As sent to the client.
    pub(crate) status: StatusCode,
    /// From the request head to the last byte of the response.
    pub(crate) response_time: Duration,
    /// From the request head to the first byte of the response.
    pub(crate) ttfb: Duration,
    /// From the first byte sent upstream to the response head of the last attempt.
    pub(crate) upstream_time: Duration,
    /// Body bytes received from the client.
    pub(crate) request_size: u64,
    /// Body bytes sent to the client.
    pub(crate) response_size: u64,
    /// The client's address, behind trusted proxies.
    pub(crate) ip_address: IpAddr,
    /// Times the request was sent upstream.
    pub(crate) attempts: u32,
    /// Why the gateway answered in place of the upstream, such as `key_revoked`.
    pub(crate) error: Option<&'static str>,
    /// Whether a limit refused it.
    pub(crate) rate_limited: bool,
    /// How its answer ended.
    pub(crate) ending: Ending,
    /// Whether it is to be counted, and not kept.
    pub(crate) is_counted_only: bool,
    /// Pieces in which the body of the answer came from the upstream.
    pub(crate) chunks: u32,
    /// What its route asks for besides.
    pub(crate) recorded: Option<Box<Recorded>>,
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The client was given all of it.
    Complete,
    /// The client went away before.
    ClientGone,
    /// The upstream did not send all of it.
    UpstreamBrokeOff,
}

impl Ending {
    /// As it is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamBrokeOff => "upstream_broke_off",
        }
    }
}

/// What is recorded of a path. Events wait in memory for the control plane, counted by number.
const PATH: usize = 2048;

/// What is recorded of a user agent.
const USER_AGENT: usize = 512;

/// The texts of a request: a copy, in one piece of memory.
#[derive(Default, Debug)]
pub(crate) struct Texts {
    bytes: Box<[u8]>,
    /// Where the path begins, behind the request id.
    path_at: u16,
    /// Where the user agent begins, behind the path.
    user_agent_at: u16,
}

impl Texts {
    /// Copies them, as far as they are recorded: a request id has at most 64 bytes.
    pub(crate) fn new(request_id: &[u8], path: &[u8], user_agent: &[u8]) -> Self {
        let cut = |text: &[u8], bound: usize| text.len().min(bound);
        let path = path.get(..cut(path, PATH)).unwrap_or_default();
        let user_agent = user_agent.get(..cut(user_agent, USER_AGENT)).unwrap_or_default();
        let place = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(request_id.len() + path.len() + user_agent.len());
        bytes.extend_from_slice(request_id);
        let path_at = place(bytes.len());
        bytes.extend_from_slice(path);
        let user_agent_at = place(bytes.len());
        bytes.extend_from_slice(user_agent);
        Self { bytes: bytes.into(), path_at, user_agent_at }
    }

    /// As sent back to the client.
    pub(crate) fn request_id(&self) -> &[u8] {
        self.bytes.get(..self.path_at.into()).unwrap_or_default()
    }

    /// Without the query.
    pub(crate) fn path(&self) -> &[u8] {
        self.bytes.get(self.path_at.into()..self.user_agent_at.into()).unwrap_or_default()
    }

    /// Empty when the client sent none.
    pub(crate) fn user_agent(&self) -> &[u8] {
        self.bytes.get(self.user_agent_at.into()..).unwrap_or_default()
    }
}
