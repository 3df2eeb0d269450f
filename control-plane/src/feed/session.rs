//! One node's stream: what it lacks goes out as it takes it, what it says is heard at any time.

use std::{sync::Arc, time::Duration};

use fastgate::{
    model::Id,
    node::v1::{self, Heartbeat, NodeMessage, Question, control_message, node_message::Body},
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    Shared,
    cursor::{Cursor, Next, Unexpected},
    outbox::Outbox,
};
use crate::{
    domain::Namespace,
    nodes::{Lease, Questions},
};

/// How often a node hears that all is well.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A node that says nothing for this long is given up; it sends a status every few seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// A node that takes nothing for this long is given up: there is a heartbeat to take every second.
const PATIENCE: Duration = Duration::from_secs(30);

/// One node's stream after its Hello.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) environment: Id,
    pub(super) outbox: Outbox,
    pub(super) lease: Lease,
    pub(super) questions: Questions,
    /// One that waits for room.
    pub(super) question: Option<Question>,
    pub(super) keys: Cursor,
    pub(super) config: Cursor,
    /// Whether a heartbeat waits for room.
    pub(super) heartbeat_due: bool,
    pub(super) stop: CancellationToken,
}

/// Whose message is the next to go out.
#[derive(Clone, Copy)]
enum Turn {
    Keys,
    Heartbeat,
    Question,
    Config,
}

impl Session {
    /// Serves the node until it leaves, errs, is replaced or the control plane stops.
    pub(super) async fn run(mut self, mut inbound: Streaming<NodeMessage>) -> Result<(), Status> {
        let outbox = self.outbox.clone();
        let mut nodes = self.shared.nodes.count_changes();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut taken) = (Instant::now(), Instant::now());
        let opened = heard;
        loop {
            self.keys.look()?;
            self.config.look()?;
            let turn = self.turn();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return outbox.drain().await,
                () = self.lease.replaced() => {
                    return Err(Status::aborted("a newer stream of this node took over"));
                }
                moved = self.keys.moved() => moved?,
                moved = self.config.moved() => moved?,
                message = inbound.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    heard = Instant::now();
                    self.hear(message)?;
                }
                // Nodes share limits by their number: a wrong one is not left standing for a second.
                _ = nodes.changed() => self.heartbeat_due = true,
                question = self.questions.next(), if self.question.is_none() => {
                    self.question = Some(question);
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Status::deadline_exceeded("the node says nothing"));
                    }
                    if taken.elapsed() > PATIENCE {
                        return Err(Status::deadline_exceeded("the node reads too slowly"));
                    }
                    if self.goes_elsewhere(opened) {
                        return outbox.drain().await;
                    }
                    self.heartbeat_due = true;
                }
                room = outbox.room(), if turn.is_some() => {
                    let room = room?;
                    taken = Instant::now();
                    if let Some(message) = turn.and_then(|turn| self.take(turn)) {
                        room.send(message);
                    }
                }
            }
        }
    }

    /// Whether the node is to look for a control plane that has the database still.
    fn goes_elsewhere(&self, opened: Instant) -> bool {
        let (absence, node) = (&self.shared.absence, self.lease.node_id());
        let (since, now) = (opened.into_std(), Instant::now().into_std());
        let goes = absence.sends_away(&self.environment, node, since, now);
        if goes {
            tracing::info!(node, "the database is away: the node is to try another control plane");
        }
        goes
    }

    /// Keys first: nothing may hold a revocation back. A delta of them goes out between the chunks
    /// of the config; but chunks of two snapshots are never mixed.
    fn turn(&self) -> Option<Turn> {
        let (keys, config) = (self.keys.next(), self.config.next());
        match (keys, config) {
            (Next::Delta, _) => Some(Turn::Keys),
            _ if self.heartbeat_due => Some(Turn::Heartbeat),
            _ if self.question.is_some() => Some(Turn::Question),
            (Next::Chunk, _) => Some(Turn::Keys),
            (_, Next::Chunk) => Some(Turn::Config),
            (Next::Snapshot, _) => Some(Turn::Keys),
            (Next::Nothing, Next::Delta | Next::Snapshot) => Some(Turn::Config),
            (Next::Nothing, Next::Nothing) => None,
        }
    }

    fn take(&mut self, turn: Turn) -> Option<control_message::Body> {
        match turn {
            Turn::Keys => self.keys.take(),
            Turn::Config => self.config.take(),
            Turn::Question => self.question.take().map(control_message::Body::Question),
            Turn::Heartbeat => {
                self.heartbeat_due = false;
                Some(self.heartbeat())
            }
        }
    }

    fn hear(&mut self, message: NodeMessage) -> Result<(), Status> {
        match message.body {
            Some(Body::Ack(ack)) => {
                let cursor = self.cursor(ack.ns())?;
                let ns = cursor.ns;
                match cursor.acknowledge(&ack) {
                    Ok(acked) => self.lease.acked(ns, acked),
                    Err(unexpected) => self.distrust(ns, ack.revision, &unexpected)?,
                }
            }
            Some(Body::Nack(nack)) => {
                self.cursor(nack.ns())?.refuse(&nack);
                self.shared.counts.nacks.inc();
                self.lease.nacked(&nack);
            }
            Some(Body::Status(status)) => self.lease.status(&status),
            Some(Body::Answer(answer)) => self.questions.answer(answer),
            Some(Body::Hello(_)) => {
                return Err(Status::invalid_argument("hello: was sent already on this stream"));
            }
            // Of a newer node: what it says there is nothing this control plane would do.
            None => {}
        }
        Ok(())
    }

    /// The node holds something else than it should.
    fn distrust(
        &self,
        ns: Namespace,
        revision: u64,
        unexpected: &Unexpected,
    ) -> Result<(), Status> {
        self.shared.counts.digest_mismatches.inc();
        match unexpected {
            Unexpected::Delta => {
                let node = self.lease.node_id();
                tracing::warn!(
                    node,
                    ?ns,
                    revision,
                    "the node holds something else than was sent: it gets everything anew"
                );
                Ok(())
            }
            // One more would fare no better; a new stream comes after a wait.
            Unexpected::Snapshot => Err(Status::data_loss("the snapshot arrived as another")),
            Unexpected::Early => {
                Err(Status::invalid_argument("ack: came before the end of the snapshot"))
            }
        }
    }

    fn cursor(&mut self, ns: v1::Namespace) -> Result<&mut Cursor, Status> {
        match ns {
            v1::Namespace::Keys => Ok(&mut self.keys),
            v1::Namespace::Config => Ok(&mut self.config),
            v1::Namespace::Unspecified => Err(Status::invalid_argument("ns: is missing")),
        }
    }

    fn heartbeat(&self) -> control_message::Body {
        control_message::Body::Heartbeat(Heartbeat {
            keys_revision: self.keys.head_revision(),
            config_revision: self.config.head_revision(),
            node_count: self.shared.nodes.count(&self.environment),
        })
    }
}
