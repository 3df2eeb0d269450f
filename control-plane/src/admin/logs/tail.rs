//! The audit log as it grows: what was stored since it was looked last, by whichever replica.
//!
//! It is the store that is followed, so an event is shown once it can't be lost any more, some
//! hundred milliseconds after its request. Events come in any order, each batch at its time: what
//! is looked through reaches back a little further than the last time, and what was shown is
//! remembered for as long. An event that comes later than that is in the list and not here.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::admin::v1::LogEvent;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    domain::{EventFilter, EventPosition},
    error::Error,
    store::{Store, StoreError},
};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How old an event may be when it is stored, and be shown all the same.
const LATE: Duration = Duration::from_secs(10);
/// How far ahead the clock of a node may be.
const AHEAD: Duration = Duration::from_secs(60);
/// Events shown of one look at most, the newest: nobody reads more.
const AT_ONCE: u32 = 1000;
/// Events on their way to one client.
const QUEUE: usize = 1000;

/// A tail about to start.
pub(super) struct Tail {
    pub(super) store: Arc<dyn Store>,
    /// Its times are those of the events that are shown first.
    pub(super) filter: EventFilter,
    /// How many those are at most.
    pub(super) lines: u32,
}

impl Tail {
    /// Shows what comes from now on, until the client leaves or `stop`.
    pub(super) fn start(self, stop: CancellationToken) -> ReceiverStream<Result<LogEvent, Status>> {
        let (events, stream) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = self.follow(&events) => ended,
                () = stop.cancelled() => Err(Status::unavailable("the control plane stops")),
                () = events.closed() => return,
            };
            if let Err(status) = ended {
                // The client may have left, or take nothing.
                drop(events.try_send(Err(status)));
            }
        });
        ReceiverStream::new(stream)
    }

    async fn follow(&self, events: &mpsc::Sender<Result<LogEvent, Status>>) -> Result<(), Status> {
        let mut seen = Seen::default();
        // What is there already is no news, and what is stored meanwhile is among the first.
        seen.new_of(self.look().await.map_err(Error::from)?);
        let lines = self.lines.min(AT_ONCE);
        let first = self.store.events(&self.filter, None, lines).await.map_err(Error::from)?;
        for (position, event) in first.into_iter().rev() {
            seen.0.insert(position.id, position.at_us);
            if events.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let found = match self.look().await {
                Ok(found) => found,
                // It is back soon, or the client gives up.
                Err(StoreError::Unavailable(_)) => continue,
                Err(fault) => return Err(Error::from(fault).into()),
            };
            for event in seen.new_of(found) {
                if events.send(Ok(event)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn look(&self) -> Result<Vec<(EventPosition, LogEvent)>, StoreError> {
        let now = SystemTime::now();
        let filter = EventFilter { from: now - LATE, until: now + AHEAD, ..self.filter.clone() };
        self.store.events(&filter, None, AT_ONCE).await
    }
}

/// What was shown of the time that is looked through, by number.
#[derive(Default)]
struct Seen(BTreeMap<i64, i64>);

impl Seen {
    /// The events not shown yet, oldest first, of a list that is newest first.
    fn new_of(&mut self, found: Vec<(EventPosition, LogEvent)>) -> Vec<LogEvent> {
        // What is no longer found is not looked for again, but for what newer events hide.
        if let Some((oldest, _)) = found.last() {
            self.0.retain(|_, at_us| *at_us >= oldest.at_us);
        }
        let mut new = Vec::new();
        for (position, event) in found.into_iter().rev() {
            if self.0.insert(position.id, position.at_us).is_none() {
                new.push(event);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_new_once_in_order_of_time() {
        let found = |ids: &[i64]| -> Vec<_> {
            let event = |id: &i64| {
                let event = LogEvent { request_id: id.to_string(), ..LogEvent::default() };
                (EventPosition { at_us: *id, id: *id }, event)
            };
            ids.iter().map(event).collect()
        };
        let mut seen = Seen::default();
        for (ids, new) in [
            (&[3, 2][..], &["2", "3"][..]),
            (&[4, 3, 2], &["4"]),
            // One came late.
            (&[5, 4, 3, 1], &["1", "5"]),
            (&[5, 4], &[]),
            (&[], &[]),
            (&[5], &[]),
        ] {
            let shown: Vec<_> =
                seen.new_of(found(ids)).into_iter().map(|event| event.request_id).collect();
            assert_eq!(shown, new, "{ids:?}");
        }
        assert_eq!(seen.0.len(), 1);
    }
}
