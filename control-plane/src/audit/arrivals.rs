//! Batches as they come from a node: checked, and joined where more than one is there, so that a node
//! that comes back with many small ones costs few transactions.

use fastgate::{
    audit::{GAPS, REFUSED_BATCH},
    node::v1::{Batch, BatchAck, Gap},
};
use futures_util::FutureExt as _;
use prost::Message as _;
use tonic::{Status, Streaming, metadata::MetadataValue};

use crate::{
    domain::{EventBatch, EventGap},
    identity::Peer,
    nodes::check_names,
};

/// Events of one batch, and of those joined to one.
const EVENTS: usize = 4096;

/// Bytes of batches joined to one, for what events carry of bodies can be much.
const BYTES: usize = 4 << 20;

/// Bytes of the reason of a gap.
const MAX_REASON: usize = 32;

/// The batches of one stream.
pub(super) struct Arrivals {
    peer: Peer,
    inbound: Streaming<Batch>,
    /// What was looked at and could not be joined.
    ahead: Option<Result<Option<Batch>, Status>>,
}

/// Batches of one boot that follow each other without a gap.
pub(super) struct Arrival {
    joined: EventBatch,
    /// As they came.
    bytes: usize,
    /// Where each of them begins.
    starts: Vec<Start>,
}

struct Start {
    first_seq: u64,
    /// Events of those before it, and those that are counted alone.
    before: (usize, usize),
}

impl Arrivals {
    pub(super) fn of(peer: Peer, inbound: Streaming<Batch>) -> Self {
        Self { peer, inbound, ahead: None }
    }

    /// The next one, and all that have come with it; `None`: the node has closed the stream.
    ///
    /// # Errors
    /// What is wrong with the stream, or with the first batch that is not joined to one before it.
    pub(super) async fn next(&mut self) -> Result<Option<Arrival>, Status> {
        let first = match self.ahead.take() {
            Some(ahead) => ahead?,
            None => self.inbound.message().await?,
        };
        let Some(first) = first else { return Ok(None) };
        let mut arrival = Arrival::of(first)?;
        // What is joined to it says the same of itself.
        let EventBatch { environment, node_id, first_seq, .. } = arrival.joined();
        self.peer.check(environment, Some(node_id)).map_err(|fault| for_good(fault, *first_seq))?;
        while let Some(next) = self.inbound.message().now_or_never() {
            match next {
                Ok(Some(next)) if arrival.is_followed_by(&next) => {
                    self.ahead = arrival.join(next).err().map(Err);
                }
                other => self.ahead = Some(other),
            }
            if self.ahead.is_some() {
                break;
            }
        }
        Ok(Some(arrival))
    }
}

impl Arrival {
    fn of(batch: Batch) -> Result<Self, Status> {
        let bytes = batch.encoded_len();
        let starts = vec![Start { first_seq: batch.first_seq, before: (0, 0) }];
        Ok(Self { joined: check(batch)?, bytes, starts })
    }

    /// All of them as one.
    pub(super) fn joined(&self) -> &EventBatch {
        &self.joined
    }

    /// What the node is told of each once it is stored.
    pub(super) fn acks(&self) -> Vec<BatchAck> {
        let ack = |start: &Start| BatchAck { first_seq: start.first_seq };
        self.starts.iter().map(ack).collect()
    }

    /// As they came.
    pub(super) fn split(self) -> Vec<EventBatch> {
        let mut rest = self.joined;
        let mut batches = Vec::new();
        for start in self.starts.into_iter().skip(1).rev() {
            batches.push(EventBatch {
                node_id: rest.node_id.clone(),
                boot_id: rest.boot_id.clone(),
                environment: rest.environment.clone(),
                first_seq: start.first_seq,
                events: rest.events.split_off(start.before.0),
                counted: rest.counted.split_off(start.before.1),
                gaps: Vec::new(),
            });
        }
        batches.push(rest);
        batches.reverse();
        batches
    }

    fn is_followed_by(&self, next: &Batch) -> bool {
        let joined = &self.joined;
        let end = joined.first_seq.saturating_add(joined.len());
        (&joined.node_id, &joined.boot_id) == (&next.node_id, &next.boot_id)
            && joined.environment.as_str() == next.environment
            && next.first_seq == end
            && next.gaps.is_empty()
            && !joined.is_empty()
            && joined.len() + (next.events.len() + next.counted.len()) as u64 <= EVENTS as u64
            && self.bytes + next.encoded_len() <= BYTES
    }

    fn join(&mut self, next: Batch) -> Result<(), Status> {
        let bytes = next.encoded_len();
        let next = check(next)?;
        self.bytes += bytes;
        let before = (self.joined.events.len(), self.joined.counted.len());
        self.starts.push(Start { first_seq: next.first_seq, before });
        self.joined.events.extend(next.events);
        self.joined.counted.extend(next.counted);
        Ok(())
    }
}

/// The refusal of a batch that would be refused again, whose number it names: so the node knows that
/// it is the batch that is at fault, and not the stream.
pub(super) fn for_good(mut status: Status, first_seq: u64) -> Status {
    status.metadata_mut().insert(REFUSED_BATCH, MetadataValue::from(first_seq));
    status
}

fn check(batch: Batch) -> Result<EventBatch, Status> {
    let first_seq = batch.first_seq;
    parse(batch).map_err(|fault| for_good(fault, first_seq))
}

fn parse(batch: Batch) -> Result<EventBatch, Status> {
    let environment = check_names(
        &batch.environment,
        &[("node_id", &batch.node_id), ("boot_id", &batch.boot_id)],
    )?;
    let events = batch.events.len() + batch.counted.len();
    if events > EVENTS || (events == 0 && batch.gaps.is_empty()) {
        let fault = format!("events: must be 1 to {EVENTS}, or none where there are gaps");
        return Err(Status::invalid_argument(fault));
    }
    // The database keeps numbers with a sign.
    let after = batch.first_seq.checked_add(events as u64);
    if after.is_none_or(|after| after > i64::MAX as u64) {
        return Err(Status::invalid_argument("first_seq: is beyond what a node can have counted"));
    }
    if batch.gaps.len() > GAPS {
        return Err(Status::invalid_argument(format!("gaps: must be at most {GAPS}")));
    }
    for event in batch.events.iter().chain(&batch.counted) {
        for (field, ms) in [
            ("response_time_ms", event.response_time_ms),
            ("upstream_time_ms", event.upstream_time_ms),
            ("ttfb_ms", event.ttfb_ms),
        ] {
            // Not every database keeps them.
            if !ms.is_finite() {
                let fault = format!("events.{field}: must be a number of milliseconds");
                return Err(Status::invalid_argument(fault));
            }
        }
    }
    let gaps = batch.gaps.into_iter().map(|gap| check_gap(gap, batch.first_seq));
    let gaps = gaps.collect::<Result<_, _>>()?;
    Ok(EventBatch {
        node_id: batch.node_id,
        boot_id: batch.boot_id,
        environment,
        first_seq: batch.first_seq,
        events: batch.events,
        counted: batch.counted,
        gaps,
    })
}

fn check_gap(gap: Gap, before: u64) -> Result<EventGap, Status> {
    let fault =
        |field: &str, fault: &str| Status::invalid_argument(format!("gaps.{field}: {fault}"));
    let after = gap.first_seq.checked_add(gap.events);
    if gap.events == 0 || after.is_none_or(|after| after > before) {
        return Err(fault("events", "must be some, all of them before first_seq"));
    }
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    if gap.reason.is_empty() || gap.reason.len() > MAX_REASON || !gap.reason.chars().all(is_word) {
        return Err(fault("reason", "must be a word such as 'dropped'"));
    }
    Ok(EventGap { first_seq: gap.first_seq, events: gap.events, reason: gap.reason })
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1::LogEvent;

    use super::*;

    fn batch(first_seq: u64, events: usize, gaps: Vec<Gap>) -> Batch {
        Batch {
            node_id: "n1".into(),
            boot_id: "b1".into(),
            environment: "default".into(),
            first_seq,
            events: vec![LogEvent::default(); events],
            counted: Vec::new(),
            gaps,
        }
    }

    fn arrival(batch: Batch) -> Arrival {
        Arrival::of(batch).expect("is sound")
    }

    #[test]
    fn only_what_follows_without_a_gap_is_joined() {
        let gap = Gap { first_seq: 7, events: 1, reason: "dropped".into() };
        let first = arrival(batch(8, 2, vec![gap.clone()]));
        assert!(first.is_followed_by(&batch(10, 3, Vec::new())));
        assert!(!first.is_followed_by(&batch(8, 2, Vec::new())), "the same again");
        assert!(!first.is_followed_by(&batch(11, 1, Vec::new())), "one is missing");
        assert!(!first.is_followed_by(&batch(10, 3, vec![gap.clone()])), "it has gaps of its own");
        assert!(!first.is_followed_by(&batch(10, EVENTS - 1, Vec::new())), "too many");
        let mut large = batch(10, 1, Vec::new());
        large.events[0].path = "/".repeat(BYTES);
        assert!(!first.is_followed_by(&large), "too large");
        assert!(!first.is_followed_by(&Batch { node_id: "n2".into(), ..batch(10, 3, Vec::new()) }));
        assert!(!first.is_followed_by(&Batch { boot_id: "b2".into(), ..batch(10, 3, Vec::new()) }));
        let elsewhere = Batch { environment: "prod".into(), ..batch(10, 3, Vec::new()) };
        assert!(!first.is_followed_by(&elsewhere));
        let counted = Batch { counted: vec![LogEvent::default()], ..batch(8, 1, Vec::new()) };
        assert!(arrival(counted.clone()).is_followed_by(&batch(10, 1, Vec::new())));
        assert!(!arrival(counted).is_followed_by(&batch(9, 1, Vec::new())), "it has two");
        assert!(!arrival(batch(8, 0, vec![gap])).is_followed_by(&batch(8, 2, Vec::new())));
    }

    #[test]
    fn what_was_joined_comes_apart_as_it_came() {
        let gap = Gap { first_seq: 1, events: 2, reason: "killed".into() };
        let counted = |first_seq, n| Batch {
            counted: vec![LogEvent::default(); n],
            ..batch(first_seq, 1, Vec::new())
        };
        let batches = [batch(3, 2, vec![gap]), counted(5, 3), counted(9, 0), counted(10, 1)];
        let mut batches = batches.to_vec();
        for (seq, event) in batches
            .iter_mut()
            .flat_map(|batch| batch.events.iter_mut().chain(&mut batch.counted))
            .enumerate()
        {
            event.request_id = seq.to_string();
        }
        let mut arrival = arrival(batches[0].clone());
        for next in &batches[1..] {
            arrival.join(next.clone()).expect("is sound");
        }
        assert_eq!((arrival.joined().events.len(), arrival.joined().counted.len()), (5, 4));
        let acks: Vec<_> = arrival.acks().into_iter().map(|ack| ack.first_seq).collect();
        assert_eq!(acks, [3, 5, 9, 10]);
        let batches = batches.into_iter().map(|batch| check(batch).expect("is sound"));
        assert_eq!(arrival.split(), batches.collect::<Vec<_>>());
    }
}
