//! Sends events to those who watch the log as it grows, before they are stored.
//!
//! ```text
//! control plane --which tails are open--> Tails ===> Spotter (on the collector's thread)
//!               <------- Follow stream -----------------'
//! ```
//!
//! The collector looks each event through for every open tail; a worker knows nothing of them. What
//! is too much is passed over and counted: an event is stored whatever becomes of it here. While
//! there is no tail this costs one read of an atomic a batch.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use fastgate::{
    audit::{EventMatch, TAILS},
    node::v1::{
        OpenTails, TailProgress, TailReport, TailedEvent, TailingNode,
        audit_tail_client::AuditTailClient,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::ledger::Totals;
use crate::{dial::SILENCE, identity::Identity};

/// Reports the connection has not taken yet.
const WAITING: usize = 16;

/// Events of one report.
const EVENTS: usize = 256;

/// A report is closed when its events come to this many bytes.
const BYTES: usize = 256 << 10;

/// Events a second of one tail: more than anybody reads, and little to a control plane of many nodes.
const A_SECOND: u32 = 1000;

/// How long until a control plane is asked again that ended the stream, or knows no tails.
const RETRY: Duration = Duration::from_secs(5);

/// The end that follows the control plane.
pub(super) struct Tails {
    identity: Arc<Identity>,
    open: watch::Sender<Open>,
}

/// The end that sees the events.
pub(super) struct Spotter {
    open: watch::Receiver<Open>,
    reports: Option<mpsc::Sender<TailReport>>,
    tails: Vec<Tail>,
    /// Events of the next report, and their bytes.
    events: Vec<TailedEvent>,
    bytes: usize,
    totals: Arc<Totals>,
}

/// The tails that are open, and where what they show is sent; `None`: no stream is there.
#[derive(Clone, Default)]
struct Open {
    tails: Arc<[(u64, EventMatch)]>,
    reports: Option<mpsc::Sender<TailReport>>,
}

/// One tail, as it is served.
struct Tail {
    id: u64,
    asked: EventMatch,
    /// It is looked for from then on.
    since: SystemTime,
    is_told: bool,
    /// Matching events that were not sent and not told of yet.
    passed_over: u64,
    /// What may still be sent in the second that began then.
    left: u32,
    second: Instant,
}

/// Both ends.
pub(super) fn tails(identity: Arc<Identity>, totals: Arc<Totals>) -> (Tails, Spotter) {
    let (sender, open) = watch::channel(Open::default());
    let (tails, events) = (Vec::new(), Vec::new());
    let spotter = Spotter { open, reports: None, tails, events, bytes: 0, totals };
    (Tails { identity, open: sender }, spotter)
}

impl Tails {
    /// Follows the control plane on the other side for as long as this is waited for.
    pub(super) async fn serve(&self, channel: Channel) -> std::convert::Infallible {
        loop {
            if let Err(fault) = self.follow(channel.clone()).await {
                let (code, why) = (fault.code(), fault.message());
                tracing::debug!(
                    ?code,
                    "the control plane is told of no events as they come: {why}"
                );
            }
            sleep(RETRY).await;
        }
    }

    async fn follow(&self, channel: Channel) -> Result<(), Status> {
        let (reports, messages) = mpsc::channel(WAITING);
        let node = TailingNode {
            node_id: self.identity.node_id.to_string(),
            environment: self.identity.environment.to_string(),
        };
        let hello = TailReport { node: Some(node), ..TailReport::default() };
        // There is room: nobody else has sent anything.
        drop(reports.try_send(hello));
        let mut client = AuditTailClient::new(channel);
        let opening = timeout(SILENCE, client.follow(ReceiverStream::new(messages)));
        let opened = opening.await.map_err(|_| Status::deadline_exceeded("no answer"))?;
        let mut inbound = opened?.into_inner();
        let _closing = Closing(&self.open);
        while let Some(OpenTails { tails }) = inbound.message().await? {
            // What this node can't read is looked up in the store.
            let readable = tails
                .into_iter()
                .filter_map(|tail| Some((tail.tail_id, EventMatch::of_tail(tail.filter?).ok()?)));
            let tails = readable.take(TAILS).collect();
            self.open.send_replace(Open { tails, reports: Some(reports.clone()) });
        }
        Ok(())
    }
}

/// Ends all tails with the stream they came over.
struct Closing<'a>(&'a watch::Sender<Open>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Open::default());
    }
}

impl Spotter {
    /// Takes in which tails are open. What is looked at from here on is looked at for them.
    pub(super) fn refresh(&mut self) {
        // It fails when the sender is gone, and then nothing changes any more.
        if self.open.has_changed().unwrap_or(false) {
            let open = self.open.borrow_and_update().clone();
            self.take(&open);
        }
        let now = if self.tails.is_empty() { return } else { Instant::now() };
        for tail in &mut self.tails {
            if now.duration_since(tail.second) >= Duration::from_secs(1) {
                (tail.left, tail.second) = (A_SECOND, now);
            }
        }
    }

    fn take(&mut self, open: &Open) {
        let goes_on = match (&self.reports, &open.reports) {
            (Some(one), Some(other)) => one.same_channel(other),
            _ => false,
        };
        // A new stream knows nothing of what was told over another one.
        if !goes_on {
            self.tails.clear();
        }
        self.reports.clone_from(&open.reports);
        self.tails.retain(|tail| open.tails.iter().any(|(id, _)| *id == tail.id));
        for (id, asked) in open.tails.iter() {
            if !self.tails.iter().any(|tail| tail.id == *id) {
                self.tails.push(Tail {
                    id: *id,
                    asked: asked.clone(),
                    since: SystemTime::now(),
                    is_told: false,
                    passed_over: 0,
                    left: A_SECOND,
                    second: Instant::now(),
                });
            }
        }
        self.totals.tails.store(self.tails.len() as u64, Relaxed);
    }

    /// Looks at an event, which is encoded as it is stored.
    pub(super) fn look(&mut self, encoded: &[u8]) {
        if self.tails.is_empty() {
            return;
        }
        let mut found = TailedEvent::default();
        let event = found.event.insert(match prost::Message::decode(encoded) {
            Ok(event) => event,
            Err(_) => return,
        });
        for tail in self.tails.iter_mut().filter(|tail| tail.asked.matches(event)) {
            if tail.left > 0 {
                tail.left -= 1;
                found.tail_ids.push(tail.id);
            } else {
                tail.passed_over += 1;
            }
        }
        if !found.tail_ids.is_empty() {
            self.bytes += encoded.len();
            self.events.push(found);
            if self.events.len() >= EVENTS || self.bytes >= BYTES {
                self.send();
            }
        }
    }

    /// Sends what there is to tell, or passes it over where the control plane takes nothing now.
    pub(super) fn send(&mut self) {
        self.bytes = 0;
        let news = self.tails.iter().filter(|tail| !tail.is_told || tail.passed_over > 0);
        let tails: Vec<_> = news.map(Tail::progress).collect();
        let Some(reports) = &self.reports else { return self.events.clear() };
        if self.events.is_empty() && tails.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.events);
        let sent = events.len() as u64;
        match reports.try_send(TailReport { node: None, events, tails }) {
            Ok(()) => {
                self.totals.tailed.fetch_add(sent, Relaxed);
                for tail in &mut self.tails {
                    (tail.is_told, tail.passed_over) = (true, 0);
                }
            }
            Err(
                mpsc::error::TrySendError::Full(report) | mpsc::error::TrySendError::Closed(report),
            ) => {
                for id in report.events.iter().flat_map(|event| &event.tail_ids) {
                    if let Some(tail) = self.tails.iter_mut().find(|tail| tail.id == *id) {
                        tail.passed_over += 1;
                    }
                }
            }
        }
    }
}

impl Tail {
    fn progress(&self) -> TailProgress {
        TailProgress {
            tail_id: self.id,
            since: Some(self.since.into()),
            passed_over: self.passed_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use fastgate::{admin::v1::LogEvent, model::Id};
    use prost::Message as _;

    use super::*;

    /// A stream with room for so many reports, over which tails of these statuses are open.
    fn stream(tails: &Tails, room: usize, statuses: &[&str]) -> mpsc::Receiver<TailReport> {
        let (reports, received) = mpsc::channel(room);
        open(tails, &reports, statuses);
        received
    }

    fn open(tails: &Tails, reports: &mpsc::Sender<TailReport>, statuses: &[&str]) {
        let asked = |status: &str| {
            let filter = fastgate::admin::v1::TailLogsRequest {
                status_code: status.into(),
                ..Default::default()
            };
            EventMatch::of_tail(filter).expect("a filter")
        };
        let tails_of = (0..).zip(statuses).map(|(id, status)| (id, asked(status))).collect();
        tails.open.send_replace(Open { tails: tails_of, reports: Some(reports.clone()) });
    }

    fn both() -> (Tails, Spotter) {
        let id = |text| Id::parse(text).expect("an id");
        let identity = Identity::of_this_boot(id("default"), id("node-1"));
        tails(Arc::new(identity), Arc::default())
    }

    fn look(spotter: &mut Spotter, status: i32) {
        let event = LogEvent { status_code: status, ..LogEvent::default() };
        spotter.look(&event.encode_to_vec());
    }

    /// The status of an event, and the tails it is for.
    type Sent = (i32, Vec<u64>);

    /// A tail, and how many events of it were passed over.
    type Passed = (u64, u64);

    fn taken(report: TailReport) -> (Vec<Sent>, Vec<Passed>) {
        let events = report.events.into_iter();
        let events = events.map(|it| (it.event.expect("an event").status_code, it.tail_ids));
        let tails = report.tails.iter().map(|tail| (tail.tail_id, tail.passed_over));
        (events.collect(), tails.collect())
    }

    #[test]
    fn only_what_a_tail_asks_for_is_sent_and_only_while_it_is_open() {
        let (tails, mut spotter) = both();
        spotter.refresh();
        look(&mut spotter, 200);
        spotter.send();
        let mut received = stream(&tails, 16, &["2xx", "404", ""]);
        spotter.refresh();
        for status in [200, 404, 500] {
            look(&mut spotter, status);
        }
        spotter.send();
        let report = taken(received.try_recv().expect("a report"));
        let events = vec![(200, vec![0, 2]), (404, vec![1, 2]), (500, vec![2])];
        assert_eq!(report, (events, vec![(0, 0), (1, 0), (2, 0)]), "all are told of, once");
        assert_eq!(spotter.totals.tailed.load(Relaxed), 3);
        spotter.send();
        assert!(received.try_recv().is_err(), "there is nothing to tell");

        let reports = spotter.reports.clone().expect("a stream");
        open(&tails, &reports, &["2xx"]);
        spotter.refresh();
        look(&mut spotter, 404);
        spotter.send();
        assert!(received.try_recv().is_err());
        // The stream ends, and the next one is told anew.
        drop(Closing(&tails.open));
        spotter.refresh();
        look(&mut spotter, 200);
        spotter.send();
        assert!(received.try_recv().is_err());
        let mut received = stream(&tails, 16, &["2xx"]);
        spotter.refresh();
        look(&mut spotter, 200);
        spotter.send();
        let report = taken(received.try_recv().expect("a report"));
        assert_eq!(report, (vec![(200, vec![0])], vec![(0, 0)]));
    }

    #[test]
    fn what_finds_no_room_is_passed_over_and_counted() {
        let (tails, mut spotter) = both();
        let mut received = stream(&tails, 1, &["2xx", "5xx"]);
        spotter.refresh();
        spotter.send();
        for _ in 0..3 {
            look(&mut spotter, 200);
        }
        spotter.send();
        assert_eq!(taken(received.try_recv().expect("a report")), (vec![], vec![(0, 0), (1, 0)]));
        look(&mut spotter, 500);
        spotter.send();
        let report = taken(received.try_recv().expect("a report"));
        assert_eq!(report, (vec![(500, vec![1])], vec![(0, 3)]));
        spotter.send();
        assert!(received.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn a_tail_gets_so_many_events_a_second_and_each_report_is_bounded() {
        let (tails, mut spotter) = both();
        let mut received = stream(&tails, 16, &["2xx"]);
        spotter.refresh();
        for _ in 0..A_SECOND + 5 {
            look(&mut spotter, 200);
        }
        spotter.send();
        let mut sent = 0;
        let mut passed_over = 0;
        while let Ok(report) = received.try_recv() {
            let (events, tails) = taken(report);
            assert!(events.len() <= EVENTS);
            sent += events.len();
            passed_over += tails.iter().map(|(_, passed_over)| passed_over).sum::<u64>();
        }
        assert_eq!((sent, passed_over), (A_SECOND as usize, 5));
        spotter.tails[0].second -= Duration::from_secs(1);
        spotter.refresh();
        look(&mut spotter, 200);
        spotter.send();
        assert_eq!(taken(received.try_recv().expect("a report")).0.len(), 1);
    }
}
