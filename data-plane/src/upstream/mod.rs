//! Upstreams at run time: which target a request goes to, over which connection, and what
//! happens when that fails.

mod balance;
mod body;
mod forward;
mod pool;
mod retry;

pub(crate) use balance::TargetSet;
pub(crate) use body::{BodyFault, Progress, RequestBody};
pub(crate) use forward::{Forwarder, Outbound, ResponseBody, Trail};
