//! One stream as a control plane serves it, step by step: the rules of `control-plane/src/feed` in
//! little.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    node::v1::{
        ControlMessage, Delta, Drain, Entity, EntitySet, Heartbeat, NodeMessage, SnapshotBegin,
        SnapshotChunk, SnapshotEnd, control_message::Body as Said, node_message::Body,
    },
};
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Status, Streaming};

use super::{
    super::{CONFIG, KEYS, Namespace, message},
    replica::{Replica, State, now},
    store::{Log, Position, Step},
};

const HELLO: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(30);

/// Entities of a chunk: few, so that there are several.
const CHUNK: usize = 10;

/// Where a node stands in one namespace.
struct Cursor {
    ns: Namespace,
    /// The epoch and revision the node came with, whatever that is worth.
    brought: Option<(u32, u64)>,
    /// `None`: nothing worth building upon.
    holds: Option<Position>,
    stage: Stage,
}

enum Stage {
    Idle,
    /// A snapshot goes out.
    Sending(VecDeque<Said>, Position),
    /// The node has yet to answer.
    Sent(Position),
}

/// What would bring the node to what the replica knows.
enum Way {
    None,
    Delta(Vec<Step>),
    Snapshot,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Keys,
    Heartbeat,
    Config,
}

pub(super) async fn serve(
    replica: Replica,
    mut inbound: Streaming<NodeMessage>,
    to_node: mpsc::Sender<Result<ControlMessage, Status>>,
) -> Result<(), Status> {
    let first = timeout(HELLO, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(Body::Hello(hello)) = first.and_then(|message| message.body) else {
        return Err(Status::invalid_argument("the first message must be a hello"));
    };
    let mut moved = replica.moved();
    if replica.state().log(KEYS).is_none() {
        return Err(Status::unavailable("the database could not be read yet"));
    }
    let [mut keys, mut config] = Namespace::ALL.map(|ns| {
        let held = hello.held.iter().find(|held| held.ns == i32::from(ns.to_wire()));
        let holds = held.and_then(|held| Position::parse(&held.epoch, held.revision, &held.digest));
        let brought = held.and_then(|held| Position::place(&held.epoch, held.revision));
        Cursor { ns, brought, holds, stage: Stage::Idle }
    });
    let (node_id, opened) = (hello.node_id.clone(), now());
    let number = replica.open(hello, [keys.holds, config.holds]);
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heartbeat_due, mut heard) = (true, now());
    loop {
        if replica.state().drains {
            drop(to_node.send(Ok(message(Said::Drain(Drain {})))).await);
            return Ok(());
        }
        if replica.state().stream(&node_id).is_none_or(|last| last.number != number) {
            return Err(Status::aborted("a newer stream of this node took over"));
        }
        let turn = turn(&keys, &config, heartbeat_due, &replica.state(), opened);
        tokio::select! {
            biased;
            _ = moved.changed() => {}
            message = inbound.message() => {
                let Some(message) = message? else { return Ok(()) };
                heard = now();
                match message.body {
                    Some(Body::Ack(ack)) => {
                        let is_of_keys = ack.ns == i32::from(KEYS.to_wire());
                        let cursor = if is_of_keys { &mut keys } else { &mut config };
                        cursor.acknowledge(ack.revision, &ack.digest)?;
                        replica.note_held(&node_id, [keys.holds, config.holds]);
                    }
                    Some(Body::Nack(nack)) => panic!("{node_id} refused what is sound: {nack:?}"),
                    _ => {}
                }
            }
            _ = heartbeat.tick() => {
                if now() - heard > SILENCE {
                    return Err(Status::deadline_exceeded("the node says nothing"));
                }
                heartbeat_due = true;
            }
            room = to_node.reserve(), if turn.is_some() => {
                let Ok(room) = room else { return Ok(()) };
                let mut state = replica.state();
                let said = match turn {
                    None => None,
                    Some(Turn::Keys) => keys.take(&mut state, opened),
                    Some(Turn::Config) => config.take(&mut state, opened),
                    Some(Turn::Heartbeat) => {
                        heartbeat_due = false;
                        Some(beat(&state))
                    }
                };
                if let Some(said) = said {
                    room.send(Ok(message(said)));
                }
            }
        }
    }
}

/// Keys first, also between the chunks of the config; chunks of two snapshots are never mixed.
fn turn(
    keys: &Cursor,
    config: &Cursor,
    heartbeat_due: bool,
    state: &State,
    opened: Duration,
) -> Option<Turn> {
    let is_delta = |way: Way| matches!(way, Way::Delta(_));
    let [of_keys, of_config] = [keys, config].map(|cursor| cursor.way(state, opened));
    let is_sending = |cursor: &Cursor| matches!(cursor.stage, Stage::Sending(..));
    let keys_wait = !matches!(of_keys, Way::None);
    let config_waits = !matches!(of_config, Way::None);
    if is_delta(of_keys) {
        Some(Turn::Keys)
    } else if heartbeat_due {
        Some(Turn::Heartbeat)
    } else if is_sending(keys) {
        Some(Turn::Keys)
    } else if is_sending(config) {
        Some(Turn::Config)
    } else if keys_wait {
        Some(Turn::Keys)
    } else {
        config_waits.then_some(Turn::Config)
    }
}

impl Cursor {
    fn way(&self, state: &State, opened: Duration) -> Way {
        let (Stage::Idle, Some(log)) = (&self.stage, state.log(self.ns)) else { return Way::None };
        let is_ahead = self.brought.is_some_and(|at| at > (log.at.epoch, log.at.revision));
        if is_ahead && !state.has_read_since(opened) {
            // It had that from a replica that has read on: it must not be led back.
            return Way::None;
        }
        let Some(holds) = &self.holds else { return Way::Snapshot };
        if *holds == log.at {
            return Way::None;
        }
        log.steps_from(holds).map_or(Way::Snapshot, Way::Delta)
    }

    /// The next message, which must be sent.
    fn take(&mut self, state: &mut State, opened: Duration) -> Option<Said> {
        if let Stage::Sending(rest, to) = &mut self.stage {
            let said = rest.pop_front();
            if rest.is_empty() {
                self.stage = Stage::Sent(*to);
            }
            return said;
        }
        match self.way(state, opened) {
            Way::None => None,
            Way::Snapshot => {
                let log = state.log(self.ns)?;
                let mut messages = snapshot(self.ns, log);
                let said = messages.pop_front();
                self.stage = Stage::Sending(messages, log.at);
                said
            }
            Way::Delta(steps) => {
                let (holds, to) = (self.holds?, steps.last()?.to);
                let mut changes: Vec<_> = steps.into_iter().flat_map(|step| step.changes).collect();
                if std::mem::take(&mut state.is_careless) {
                    changes.pop();
                }
                self.stage = Stage::Sent(to);
                Some(Said::Delta(Delta {
                    ns: self.ns.to_wire().into(),
                    epoch: to.epoch_name(),
                    from: holds.revision,
                    to: to.revision,
                    changes,
                    digest_after: to.digest.to_bytes().to_vec(),
                }))
            }
        }
    }

    fn acknowledge(&mut self, revision: u64, digest: &[u8]) -> Result<(), Status> {
        let Stage::Sent(to) = &self.stage else {
            return Err(Status::invalid_argument("ack: nothing was sent"));
        };
        let is_meant = to.revision == revision && Digest::from_bytes(digest) == Some(to.digest);
        self.holds = is_meant.then_some(*to);
        self.stage = Stage::Idle;
        Ok(())
    }
}

fn snapshot(ns: Namespace, log: &Log) -> VecDeque<Said> {
    let begin = SnapshotBegin {
        ns: ns.to_wire().into(),
        epoch: log.at.epoch_name(),
        revision: log.at.revision,
        entity_count: log.entities.len() as u64,
    };
    let entities: Vec<Entity> = log.entities.values().cloned().collect();
    let chunks = entities.chunks(CHUNK).map(|part| {
        let data: Bytes = EntitySet { entities: part.to_vec() }.encode_to_vec().into();
        let crc32 = crc32fast::hash(&data);
        Said::SnapshotChunk(SnapshotChunk { data, crc32 })
    });
    let end = SnapshotEnd { digest: log.at.digest.to_bytes().to_vec() };
    let messages = [Said::SnapshotBegin(begin)].into_iter().chain(chunks);
    messages.chain([Said::SnapshotEnd(end)]).collect()
}

fn beat(state: &State) -> Said {
    let head = |ns| state.log(ns).map_or(0, |log| log.at.revision);
    Said::Heartbeat(Heartbeat {
        keys_revision: head(KEYS),
        config_revision: head(CONFIG),
        node_count: 1,
    })
}
