//! End-to-end tests: the real programs on real Postgres and Redis, seen from outside.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects has failed"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin_tls;
mod audit;
mod bad_input;
mod bodies;
mod control_plane_down;
mod crash_guard;
mod dev;
mod docs;
mod documents;
mod explain;
mod failures;
mod limits;
mod many_keys;
mod node_identity;
mod onward;
mod plans;
mod postgres_trouble;
mod recording;
mod replicas;
mod revocation;
mod rollout;
mod route_changes;
mod slow_nodes;
mod spool;
mod start_and_stop;
mod tail;
mod tls;
mod two_nodes;
mod weights;
