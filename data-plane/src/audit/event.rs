//! One request, as the node that answered it saw it.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fastgate::model::Id;
use http::{Method, StatusCode};

use crate::keys::HeldKey;

/// One request, in the form the request path has it at hand: nothing is formatted or looked up
/// to build it. Node and environment are added when it is shipped.
#[derive(Debug)]
pub(crate) struct Event {
    /// When the request head had been read.
    pub(crate) timestamp: SystemTime,
    /// As sent back to the client. Like all `Bytes` here a copy, or shared by a connection: a
    /// slice of the read buffer would keep the whole buffer until the event is shipped.
    pub(crate) request_id: Bytes,
    /// The key that was sent, if it is known; also when it was refused.
    pub(crate) key: Option<HeldKey>,
    /// Which secret of the key was used; 0 without a key.
    pub(crate) secret_version: u32,
    /// The route that matched.
    pub(crate) route_id: Option<Id>,
    /// The request's method.
    pub(crate) method: Method,
    /// Without the query.
    pub(crate) path: Bytes,
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
    /// Empty when the client sent none.
    pub(crate) user_agent: Bytes,
    /// The client's address, behind trusted proxies.
    pub(crate) ip_address: IpAddr,
    /// Times the request was sent upstream.
    pub(crate) attempts: u32,
    /// Why the gateway answered in place of the upstream, such as `key_revoked`.
    pub(crate) error: Option<&'static str>,
    /// Whether a limit refused it.
    pub(crate) rate_limited: bool,
}
