//! The audit log's way in: batches of events from nodes, each stored once.

mod ingest;
#[cfg(test)]
mod tests;

pub(crate) use ingest::Ingest;
