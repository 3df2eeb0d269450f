//! One node's stream: what it holds, what it lacks, what it said of what it was sent.

use std::{sync::Arc, time::Duration};

use fastgate::{
    digest::Digest,
    model::Id,
    node::v1::{
        self, Ack, Drain, Heartbeat, Held, Nack, NodeMessage, control_message, node_message::Body,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    Shared,
    history::{History, LARGEST_DELTA, Step},
    outbox::Outbox,
};
use crate::{domain::Namespace, nodes::Lease};

/// How often a node hears that all is well.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A node that says nothing for this long is given up; it sends a status every few seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// Revisions read from the store's log for a node that memory does not reach back to.
const CATCH_UP: u32 = 1024;

/// One node's stream after its Hello.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) environment: Id,
    pub(super) outbox: Outbox,
    pub(super) lease: Lease,
    pub(super) keys: Cursor,
    pub(super) config: Cursor,
    pub(super) stop: CancellationToken,
}

/// Where a node stands in one namespace.
pub(super) struct Cursor {
    ns: Namespace,
    head: watch::Receiver<Option<Arc<History>>>,
    /// `None`: the node holds nothing worth building upon.
    holds: Option<Position>,
    /// Sent and not yet answered. One at a time: what comes meanwhile goes in one step after it.
    in_flight: Option<Sent>,
    /// Refused, so not sent again.
    refused: Option<Position>,
}

/// A step on its way to the node.
struct Sent {
    leads_to: Position,
    is_snapshot: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Position {
    epoch: String,
    revision: u64,
    digest: Digest,
}

/// What to send next.
enum Next {
    Nothing,
    Delta(u64, Vec<Step>),
    Snapshot,
}

impl Session {
    /// Serves the node until it leaves, errs, is replaced or the control plane stops.
    pub(super) async fn run(mut self, mut inbound: Streaming<NodeMessage>) -> Result<(), Status> {
        let mut nodes = self.shared.nodes.count_changes();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            // Keys first: nothing of the other namespace may hold a revocation back.
            self.keys.advance(&self.shared, &self.environment, &self.outbox).await?;
            self.config.advance(&self.shared, &self.environment, &self.outbox).await?;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return self.outbox.send(control_message::Body::Drain(Drain {})).await;
                }
                () = self.lease.replaced() => {
                    return Err(Status::aborted("a newer stream of this node took over"));
                }
                moved = self.keys.head.changed() => gone(moved)?,
                moved = self.config.head.changed() => gone(moved)?,
                message = inbound.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    heard = Instant::now();
                    self.take(message)?;
                }
                // Nodes share limits by their number: a wrong one is not left standing for a second.
                _ = nodes.changed() => self.outbox.send(self.heartbeat()).await?,
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Status::deadline_exceeded("the node says nothing"));
                    }
                    self.outbox.send(self.heartbeat()).await?;
                }
            }
        }
    }

    fn take(&mut self, message: NodeMessage) -> Result<(), Status> {
        match message.body {
            Some(Body::Ack(ack)) => {
                let cursor = self.cursor(ack.ns())?;
                let ns = cursor.ns;
                match cursor.acknowledge(&ack) {
                    Ok(revision) => self.lease.acked(ns, revision),
                    Err(Unexpected { of_snapshot }) => {
                        self.shared.counts.digest_mismatches.inc();
                        if of_snapshot {
                            // One more would fare no better; a new stream comes after a wait.
                            return Err(Status::data_loss("the snapshot arrived as another"));
                        }
                        tracing::warn!(
                            node = self.lease.node_id(),
                            ?ns,
                            revision = ack.revision,
                            "the node holds something else than was sent: it gets everything anew"
                        );
                    }
                }
            }
            Some(Body::Nack(nack)) => {
                self.cursor(nack.ns())?.refuse(&nack);
                self.shared.counts.nacks.inc();
                self.lease.nacked(&nack);
            }
            Some(Body::Status(status)) => self.lease.status(&status),
            Some(Body::Hello(_)) => {
                return Err(Status::invalid_argument("hello: was sent already on this stream"));
            }
            None => return Err(Status::invalid_argument("body: is missing")),
        }
        Ok(())
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
            keys_revision: self.shared.head(&self.environment, Namespace::Keys),
            config_revision: self.shared.head(&self.environment, Namespace::Config),
            node_count: self.shared.nodes.count(&self.environment),
        })
    }
}

/// The node acknowledged something else than it was sent.
struct Unexpected {
    /// What it was sent was everything.
    of_snapshot: bool,
}

impl Cursor {
    /// A cursor for a node that says it holds `held`; `None`: no such environment.
    pub(super) fn new(
        shared: &Shared,
        environment: &Id,
        ns: Namespace,
        held: &[Held],
    ) -> Option<Self> {
        let head = shared.track(environment, ns)?.subscribe();
        let held = held.iter().find(|held| held.ns() == v1::Namespace::from(ns));
        let holds = held.and_then(|held| {
            let digest = Digest::from_bytes(&held.digest)?;
            Some(Position { epoch: held.epoch.clone(), revision: held.revision, digest })
        });
        Some(Self { ns, head, holds, in_flight: None, refused: None })
    }

    /// The revision the node says it holds; 0 where it is one of another epoch.
    pub(super) fn held_revision(&self) -> u64 {
        let head = self.head.borrow();
        let of_this_epoch = |held: &&Position| head.as_ref().is_some_and(|h| h.epoch == held.epoch);
        self.holds.as_ref().filter(of_this_epoch).map_or(0, |held| held.revision)
    }

    /// Sends what the node lacks, if it has answered the step before.
    async fn advance(
        &mut self,
        shared: &Shared,
        environment: &Id,
        outbox: &Outbox,
    ) -> Result<(), Status> {
        let head = self.head.borrow_and_update().clone();
        let head = head.ok_or_else(|| Status::not_found("the environment was deleted"))?;
        let is_refused = |bad: &Position| bad.epoch == head.epoch && bad.revision >= head.revision;
        if self.in_flight.is_some() || self.refused.as_ref().is_some_and(is_refused) {
            return Ok(());
        }
        let is_snapshot = match self.next(shared, environment, &head).await {
            Next::Nothing => return Ok(()),
            Next::Delta(from, steps) => {
                outbox.send_delta(self.ns, &head.epoch, from, &steps).await?;
                shared.counts.deltas.inc();
                false
            }
            Next::Snapshot => {
                outbox.send_snapshot(self.ns, &head).await?;
                shared.counts.snapshots.inc();
                true
            }
        };
        let leads_to =
            Position { epoch: head.epoch.clone(), revision: head.revision, digest: head.digest };
        self.in_flight = Some(Sent { leads_to, is_snapshot });
        Ok(())
    }

    async fn next(&self, shared: &Shared, environment: &Id, head: &History) -> Next {
        let Some(holds) = self.holds.as_ref().filter(|holds| holds.epoch == head.epoch) else {
            return Next::Snapshot;
        };
        if holds.revision > head.revision {
            return Next::Snapshot;
        }
        if holds.revision == head.revision {
            let same = holds.digest == head.digest;
            return if same { Next::Nothing } else { Next::Snapshot };
        }
        let in_memory = head
            .steps_after(holds.revision)
            .filter(|_| head.digest_at(holds.revision) == Some(holds.digest));
        let steps = match in_memory {
            Some(steps) => Some(steps),
            None => self.logged_steps(shared, environment, head, holds).await,
        };
        match steps {
            Some(steps) if steps.iter().map(|step| step.size).sum::<usize>() <= LARGEST_DELTA => {
                Next::Delta(holds.revision, steps)
            }
            _ => Next::Snapshot,
        }
    }

    /// The steps from what the node holds to the head, from the store; `None` where its log does
    /// not reach back as far, or says that the node holds something else.
    async fn logged_steps(
        &self,
        shared: &Shared,
        environment: &Id,
        head: &History,
        holds: &Position,
    ) -> Option<Vec<Step>> {
        if head.revision - holds.revision > u64::from(CATCH_UP) {
            return None;
        }
        // From one earlier, whose digest says what the node should hold.
        let before = holds.revision.saturating_sub(1);
        let rows = shared.store.log(environment, self.ns, before, CATCH_UP + 2).await.ok()?;
        let mut steps = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row.revision <= head.revision) {
            steps.push(Step::read(row, &head.epoch).ok()?);
        }
        let after = steps.split_off(steps.partition_point(|step| step.revision <= holds.revision));
        let held_digest = match steps.last() {
            Some(step) => step.digest,
            None if holds.revision == 0 => Digest::default(),
            None => return None,
        };
        let is_whole = after.len() as u64 == head.revision - holds.revision;
        (held_digest == holds.digest && is_whole).then_some(after)
    }

    fn acknowledge(&mut self, ack: &Ack) -> Result<u64, Unexpected> {
        let sent = self.in_flight.take();
        let of_snapshot = sent.as_ref().is_some_and(|sent| sent.is_snapshot);
        self.holds = sent.map(|sent| sent.leads_to).filter(|sent| {
            sent.revision == ack.revision && sent.digest.to_bytes()[..] == ack.digest[..]
        });
        self.refused = None;
        self.holds.as_ref().map(|held| held.revision).ok_or(Unexpected { of_snapshot })
    }

    /// Takes note that the node kept what it had. What was not sent can't be refused: a number
    /// alone must not keep later revisions from the node.
    fn refuse(&mut self, nack: &Nack) {
        if let Some(sent) = self.in_flight.take_if(|sent| sent.leads_to.revision == nack.revision) {
            self.refused = Some(sent.leads_to);
        }
    }
}

fn gone(moved: Result<(), watch::error::RecvError>) -> Result<(), Status> {
    moved.map_err(|_| Status::not_found("the environment was deleted"))
}
