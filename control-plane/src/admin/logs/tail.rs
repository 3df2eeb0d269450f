//! The audit log as it grows, of all nodes.
//!
//! Nodes connected to this control plane send what matches as it comes. For all others the store is
//! followed, as it is for what a node recorded before it knew of the tail, or after it lost its stream:
//! what was stored since it was looked last, by whichever replica. Events come in any order: what is
//! looked through reaches back a little further than the last time, and what was shown is remembered
//! for as long, for it may come both ways. An event that is stored later than that is in the list and
//! not here.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::admin::v1::{LogEvent, TailLogsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    audit::OpenTail,
    domain::{EventFilter, EventPage},
    error::Error,
    store::{Store, StoreError, unix_us},
};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How old an event may be when it is stored, and be shown all the same.
const LATE: Duration = Duration::from_secs(10);
/// How far ahead the clock of a node may be.
const AHEAD: Duration = Duration::from_secs(60);
/// Events shown of one look at most, the newest, as far as they are on one page: nobody reads more.
const AT_ONCE: u32 = 1000;
/// Events on their way to one client. What it does not take waits with the tail, as far as there is room.
const QUEUE: usize = 16;
/// Events remembered as shown; with more than that in the time that is looked through, some that came
/// both ways may be shown twice.
const REMEMBERED: usize = 100_000;

/// A tail about to start.
pub(super) struct Tail {
    pub(super) store: Arc<dyn Store>,
    /// Its times are those of the events that are shown first.
    pub(super) filter: EventFilter,
    /// How many those are at most.
    pub(super) lines: u32,
    /// What nodes send by themselves.
    pub(super) live: OpenTail,
}

type Events = mpsc::Sender<Result<TailLogsResponse, Status>>;

impl Tail {
    /// Shows what comes from now on, until the client leaves or `stop`.
    pub(super) fn start(
        mut self,
        stop: CancellationToken,
    ) -> ReceiverStream<Result<TailLogsResponse, Status>> {
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

    async fn follow(&mut self, events: &Events) -> Result<(), Status> {
        let mut seen = Seen::default();
        // What is there already is no news, and what is stored meanwhile is among the first.
        for (position, event) in self.look().await.map_err(Error::from)?.events {
            seen.is_new(position.at_us, &event);
        }
        let lines = self.lines.min(AT_ONCE);
        let first = self.store.events(&self.filter, None, lines).await.map_err(Error::from)?;
        self.live.pass_over(first.left_out);
        for (position, event) in first.events.into_iter().rev() {
            seen.is_new(position.at_us, &event);
            if self.show(event, events).await.is_err() {
                return Ok(());
            }
        }
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let found = tokio::select! {
                event = self.live.next() => {
                    // A node of another version may know less of filters.
                    if !self.filter.matching.matches(&event) {
                        continue;
                    }
                    vec![(began_us(&event), event)]
                }
                _ = tick.tick() => {
                    seen.forget(unix_us(SystemTime::now() - LATE));
                    self.stored().await?
                }
            };
            for (at_us, event) in found {
                if seen.is_new(at_us, &event) && self.show(event, events).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// What the store has of late, oldest first, but for what nodes send themselves.
    async fn stored(&self) -> Result<Vec<(i64, LogEvent)>, Status> {
        let found = match self.look().await {
            Ok(found) => found.events,
            // It is back soon, or the client gives up.
            Err(StoreError::Unavailable(_)) => return Ok(Vec::new()),
            Err(fault) => return Err(Error::from(fault).into()),
        };
        let is_to_show = |event: &LogEvent| !self.live.has_from_node(&event.node_id, began(event));
        let found = found.into_iter().rev().filter(|(_, event)| is_to_show(event));
        Ok(found.map(|(position, event)| (position.at_us, event)).collect())
    }

    async fn show(&self, mut event: LogEvent, events: &Events) -> Result<(), Gone> {
        // As it is stored.
        event.timestamp = Some(began(&event).into());
        let passed_over = self.live.passed_over();
        let shown = TailLogsResponse { log: Some(event), passed_over };
        events.send(Ok(shown)).await.map_err(|_| Gone)
    }

    async fn look(&self) -> Result<EventPage, StoreError> {
        let now = SystemTime::now();
        let filter = EventFilter { from: now - LATE, until: now + AHEAD, ..self.filter.clone() };
        self.store.events(&filter, None, AT_ONCE).await
    }
}

/// Nobody reads the tail any more.
struct Gone;

/// When the request began, to the microsecond.
fn began_us(event: &LogEvent) -> i64 {
    let time = event.timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok());
    time.map(unix_us).unwrap_or_default()
}

fn began(event: &LogEvent) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(began_us(event).unsigned_abs())
}

/// What was shown of the time that is looked through: when it began, and what tells it apart from
/// others of that microsecond.
#[derive(Default)]
struct Seen {
    shown: BTreeSet<(i64, u64)>,
    names: RandomState,
}

impl Seen {
    /// Whether an event was not shown yet; it counts as shown from then on.
    fn is_new(&mut self, at_us: i64, event: &LogEvent) -> bool {
        let name = self.names.hash_one((&event.node_id, &event.request_id));
        if self.shown.len() >= REMEMBERED {
            self.shown.pop_first();
        }
        self.shown.insert((at_us, name))
    }

    /// Forgets what began before a moment: the store is not asked for it any more.
    fn forget(&mut self, before_us: i64) {
        self.shown = self.shown.split_off(&(before_us, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_new_once_whichever_way_it_comes() {
        let event = |node: &str, request: &str| LogEvent {
            node_id: node.into(),
            request_id: request.into(),
            ..LogEvent::default()
        };
        let mut seen = Seen::default();
        for (at_us, node, request, is_new) in [
            (3, "n1", "a", true),
            (3, "n1", "a", false),
            // The client chose the id, or it went through another node.
            (4, "n1", "a", true),
            (3, "n2", "a", true),
            (3, "n1", "b", true),
            (2, "n1", "a", true),
        ] {
            assert_eq!(seen.is_new(at_us, &event(node, request)), is_new, "{at_us} {node}");
        }
        seen.forget(4);
        assert_eq!(seen.shown.len(), 1);
        assert!(!seen.is_new(4, &event("n1", "a")));
        for number in 0..2 * REMEMBERED as i64 {
            seen.is_new(number, &event("n1", "a"));
        }
        assert_eq!(seen.shown.len(), REMEMBERED);
    }
}
