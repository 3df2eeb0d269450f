//! The admin API against a real SQLite file, as its users call it: over gRPC and over REST.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and clippy knows helpers of tests only in unit tests"
)]

mod audit;
mod dry_runs;
mod golden;
mod health;
mod joining;
mod plane;
mod refusals;
mod repeated;
mod script;
mod start_and_stop;
mod stop;
