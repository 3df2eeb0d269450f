//! The audit trail of a node: every answered request becomes one event.
//!
//! ```text
//! worker thread      second runtime                          control plane
//! Recorder -> ring -> Shipper: batch -> pending -> Push stream -> store -> ack
//! ```
//!
//! Recording never waits: when the control plane is away, pending batches fill their bound, then
//! the rings do, and what comes after that is dropped and counted. So at any moment
//! `produced = stored + waiting + dropped`.

mod batch;
mod encode;
mod event;
mod pending;
mod push;
mod ring;
mod ship;

pub(crate) use event::{Event, Texts};
pub(crate) use ring::{Counts, Recorder};
#[cfg(any(test, feature = "bench"))]
pub(crate) use ring::{Tap, ring};
pub(crate) use ship::{Ledger, Shipper};

#[cfg(test)]
mod tests;
