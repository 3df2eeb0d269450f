//! How the node follows its environment's config: from disk at the start, from a control plane
//! from then on.
//!
//! ```text
//! disk ----restore----> Replica --snapshot--> SnapshotCell (read by every worker)
//! control plane -stream-^   |--ack, nack--> control plane
//!                           |--held-------> Saver (later, off the way)
//! ```
//!
//! A control plane that is away, wrong or slow never takes anything from the requests: the last
//! good state stays in force until a better one was compiled.

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod crash_guard;
mod follower;
mod health;
mod holding;
mod progress;
mod question;
mod recall;
mod replica;
mod saver;
mod state_dir;
mod trial;

pub(crate) use follower::{Follower, Parts};
pub(crate) use holding::{Holding, Namespace, Position};
pub(crate) use progress::{Counts, Progress};
pub(crate) use recall::Recall;
pub(crate) use state_dir::StateDir;
pub use state_dir::StateDirError;

#[cfg(test)]
mod tests;
