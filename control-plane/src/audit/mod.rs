//! The audit log's way in: batches of events from nodes, each stored once.

mod ingest;

pub(crate) use ingest::Ingest;
