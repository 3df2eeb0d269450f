//! Sees to what is kept: adds up what batches leave to be counted, makes room for the days to
//! come, and ends what is too old.
//!
//! Every replica tries; the store lets one at a time do it. Nothing is wrong while it is not done:
//! counting takes longer, and events of a day without a partition wait in another one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::store::{Retention, Store, StoreError, within};

/// How often requests are added up. In between, readers of sums add up the rest.
const ROLL_UP: Duration = Duration::from_secs(10);
/// How often it is looked for what is to be made and what to be ended.
const KEEP: Duration = Duration::from_secs(600);

/// Starts the task; it ends with `stop`.
pub(crate) fn start(
    store: Arc<dyn Store>,
    retention: Retention,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = run(&*store, &retention) => {}
        }
    })
}

async fn run(store: &dyn Store, retention: &Retention) {
    let mut tick = tokio::time::interval(ROLL_UP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut kept: Option<Instant> = None;
    loop {
        tick.tick().await;
        if kept.is_none_or(|kept| kept.elapsed() >= KEEP) {
            let done = within(KEEP, store.keep(retention, SystemTime::now())).await;
            // What failed is tried again soon: it may have waited for others in vain.
            kept = done.is_ok().then(Instant::now);
            report("can't see to what is kept", done);
        }
        let done = within(KEEP, store.roll_up(SystemTime::now())).await;
        report("can't add up requests", done);
    }
}

fn report(what: &str, done: Result<(), StoreError>) {
    if let Err(fault) = done {
        let cause = std::error::Error::source(&fault).map(ToString::to_string);
        tracing::warn!(cause, "{what}: {fault}");
    }
}
