//! The audit trail of a node: every answered request becomes one event.
//!
//! ```text
//! worker thread      collector thread            second runtime     control plane
//! Recorder -> ring -> batch -> write(2) -> window -> Push stream -> store
//!                                 spool -- behind --^     ack ------'
//!                         unlink <-- watermark <-----------'
//! ```
//!
//! A route may ask for more of its requests, headers and bodies: the collector takes the secrets out
//! of them before it writes. And it may ask for a sample: the others are written as events that are
//! to be counted alone. They have their numbers like all, so that nothing below changes by it.
//!
//! A sink (`onward/`) has a window and a watermark of its own; a segment is unlinked when everyone
//! is past it. Recording never waits. When one of them is away the spool fills up to its limit, then
//! the rings do; a setting says whether requests are refused by then, or what comes is dropped and
//! counted. So at any moment `produced = stored + spooled + dropped`. Without a state directory
//! batches are kept in memory, and what does not fit is dropped.

mod alarm;
mod batch;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod collect;
mod disk;
mod encode;
mod event;
mod ledger;
mod onward;
mod outlet;
mod push;
mod redact;
mod refusal;
mod ring;
mod ship;
#[cfg(test)]
mod small_disk;
mod spool;
mod tail;
mod tally;
mod window;

pub(crate) use disk::SpoolSettings;
pub use disk::WhenFull;
pub(crate) use event::{Ending, Event, Texts};
pub(crate) use ledger::{Ledger, SinkState};
pub use onward::{FileSettings, FileTarget, NatsServer, NatsSettings, Onward, OtlpSettings, Store};
pub(crate) use onward::{check_credentials, check_headers};
pub(crate) use ring::Recorder;
#[cfg(test)]
pub(crate) use ring::full_ring;
#[cfg(any(test, feature = "bench"))]
pub(crate) use ring::{Tap, ring};
pub(crate) use ship::Shipper;

#[cfg(test)]
mod tests;
