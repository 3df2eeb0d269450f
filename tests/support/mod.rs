//! The harness of the end-to-end tests: private servers, the real programs, a real upstream.
//!
//! Everything listens on free loopback ports, keeps its files in a temporary folder, and is
//! killed when the value that owns it is dropped, or at the latest when the test program ends.

mod certificates;
mod client;
mod clock;
mod collector;
mod command;
mod gate;
mod load;
mod nats;
mod node;
mod postgres;
mod process;
mod redis;
mod upstream;
mod wire;

pub(crate) use certificates::Authority;
pub(crate) use client::{Answer, Client, Line};
pub(crate) use collector::Collector;
pub(crate) use command::{free_port, run, run_ok};
pub(crate) use gate::Gate;
pub(crate) use load::{Answers, Load};
pub(crate) use nats::Nats;
pub(crate) use node::Node;
pub(crate) use postgres::Postgres;
pub(crate) use process::{Process, program};
pub(crate) use redis::Redis;
pub(crate) use upstream::Upstream;
pub(crate) use wire::Wire;

use std::time::{Duration, Instant};

/// Whether tests take the time their figures are meant for, and hold them to it. That is with
/// `FASTGATE_LONG=1`; otherwise they are short, and patient with a busy machine. Build optimised
/// for it, or load takes more than the machine has: `cargo build --release --workspace --bins`,
/// then `FASTGATE_LONG=1 cargo test --release --test e2e limits`.
pub(crate) fn is_long() -> bool {
    std::env::var_os("FASTGATE_LONG").is_some()
}

/// Asks until `check` gives an answer. Fails the test after ten seconds.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value below which this part of the sorted figures lies.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}
