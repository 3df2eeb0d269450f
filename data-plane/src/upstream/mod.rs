//! The way to upstreams: over which connection a request goes, and what happens when that fails.

mod answer;
mod connection;
mod forward;
mod pool;
mod retry;

pub(crate) use answer::{Streamed, UpstreamAnswer};
pub(crate) use forward::{Forwarder, Outbound, Trail};
