//! The audit log as it is kept: batches of events from nodes, each stored once, added up, and ended.

mod arrivals;
mod ingest;
mod keeper;
mod tails;
#[cfg(test)]
mod tests;
mod usage;

pub(crate) use ingest::Ingest;
pub(crate) use keeper::start as start_keeper;
pub(crate) use tails::{OpenTail, Tails};
pub(crate) use usage::StoredUsage;
