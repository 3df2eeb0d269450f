//! Connects to a control plane or a collector, for all streams and calls alike.

use std::{error::Error, time::Duration};

use http::Uri;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// A server that says nothing for this long is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// How long a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to an endpoint.
///
/// # Errors
/// Why it can't be reached.
pub(crate) async fn connect_to(endpoint: &Endpoint) -> Result<Channel, String> {
    #[cfg(test)]
    if turmoil::in_simulation() {
        let connected = crate::simulation::connect_to(endpoint).await;
        return connected.map_err(|fault| innermost(&fault));
    }
    endpoint.connect().await.map_err(|fault| innermost(&fault))
}

/// Where a server is, and how long it is waited for.
pub(crate) fn endpoint(uri: &Uri) -> Endpoint {
    Endpoint::from(uri.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(SILENCE / 2)
        .keep_alive_timeout(SILENCE / 2)
}

/// What a refused call says to an operator.
pub(crate) fn refusal(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Why the connection broke, if that is what a status is made of; whoever was called said nothing then.
pub(crate) fn broke(status: &Status) -> Option<String> {
    (status.code() == Code::Unknown).then(|| status.source().map(innermost)).flatten()
}

/// tonic's own text is only "transport error": the reason is at the end of the chain.
pub(crate) fn innermost(fault: &dyn Error) -> String {
    let mut innermost = fault;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
