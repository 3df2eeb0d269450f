//! The way to upstreams: over which connection a request goes, and what happens when that fails.

mod body;
mod forward;
mod pool;
mod retry;

pub(crate) use body::{BodyFault, Progress, RequestBody};
pub(crate) use forward::{Forwarder, Outbound, ResponseBody, Trail};
