//! Where a node stands in one namespace, and the step that brings it on.

use std::{future::Future, mem, pin::Pin, sync::Arc, time::Instant};

use fastgate::{
    digest::Digest,
    model::{Id, Member},
    node::v1::{self, Ack, Delta, Hello, Nack, control_message::Body},
};
use tokio::sync::watch;
use tonic::Status;

use super::{
    Shared,
    catch_up::{CATCH_UP, logged_steps},
    history::{History, LARGEST_DELTA, Position, Step, merge},
    snapshot::Snapshot,
    staging::Published,
};
use crate::{domain::Namespace, nodes::Acked};

/// Where a node stands in one namespace.
pub(super) struct Cursor {
    pub(super) ns: Namespace,
    shared: Arc<Shared>,
    environment: Id,
    published: watch::Receiver<Option<Published>>,
    /// What rollouts tell the node apart by.
    member: Arc<Member>,
    /// The newest revision the node may have, as of the last look.
    head: Arc<History>,
    /// The newest revision there is, whoever may have it.
    newest: u64,
    /// When the node came.
    opened: Instant,
    /// The epoch and revision it came with, whatever that is worth.
    brought: Option<(String, u64)>,
    /// `None`: the node holds nothing worth building upon.
    holds: Option<Position>,
    /// Refused, so not sent again.
    refused: Option<Refused>,
    stage: Stage,
}

/// A revision the node kept out.
struct Refused {
    epoch: String,
    revision: u64,
}

/// How far the current step is. One at a time: what comes meanwhile goes in one step after it.
enum Stage {
    /// Nothing is under way.
    Idle,
    /// The store is asked for the steps memory no longer holds.
    Asking(Asking),
    /// What it answered, as far as it fits into one message.
    Found(Vec<Step>),
    /// A snapshot goes out, message by message.
    Sending(Snapshot, Position),
    /// The node has yet to answer.
    Sent { leads_to: Position, is_snapshot: bool },
}

type Asking = Pin<Box<dyn Future<Output = Option<Vec<Step>>> + Send>>;

/// What would bring the node to the head.
enum Way {
    /// It is there, or refused to be.
    None,
    Delta(Vec<Step>),
    Snapshot,
    /// The store knows.
    Ask(Position),
}

/// What a cursor would send next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Nothing,
    /// A step of one message.
    Delta,
    /// The first message of many.
    Snapshot,
    /// One more of them.
    Chunk,
}

/// The node acknowledged something else than it was sent.
pub(super) enum Unexpected {
    Delta,
    Snapshot,
    /// Not all of the snapshot has gone out.
    Early,
}

impl Cursor {
    /// A cursor for a node that says what it holds and what it refused; `None`: no such environment.
    pub(super) fn new(
        shared: Arc<Shared>,
        environment: Id,
        ns: Namespace,
        hello: &Hello,
        member: Arc<Member>,
    ) -> Option<Self> {
        let mut published = shared.track(&environment, ns)?.subscribe();
        let (head, newest) = seen(&mut published, &member)?;
        let wire = v1::Namespace::from(ns);
        let held = hello.held.iter().find(|held| held.ns() == wire);
        let holds = held.and_then(|held| {
            let digest = Digest::from_bytes(&held.digest)?;
            Some(Position { epoch: held.epoch.clone(), revision: held.revision, digest })
        });
        let refused = hello.refused.iter().find_map(|refusal| {
            let nack = refusal.nack.as_ref().filter(|nack| nack.ns() == wire)?;
            Some(Refused { epoch: refusal.epoch.clone(), revision: nack.revision })
        });
        let brought = held.map(|held| (held.epoch.clone(), held.revision));
        let (opened, stage) = (Instant::now(), Stage::Idle);
        Some(Self {
            ns,
            shared,
            environment,
            published,
            member,
            head,
            newest,
            opened,
            brought,
            holds,
            refused,
            stage,
        })
    }

    /// What the node says it holds; nothing where it is of another epoch.
    pub(super) fn held(&self) -> Acked {
        let of_this_epoch = |held: &&Position| self.head.epoch == held.epoch;
        self.holds.as_ref().filter(of_this_epoch).map(acked).unwrap_or_default()
    }

    /// The newest revision the node may have.
    pub(super) fn head_revision(&self) -> u64 {
        self.head.revision
    }

    /// Looks at the newest head, and begins to ask the store where memory does not know the way.
    ///
    /// # Errors
    /// The environment was deleted.
    pub(super) fn look(&mut self) -> Result<(), Status> {
        (self.head, self.newest) = seen(&mut self.published, &self.member).ok_or_else(gone)?;
        // What was refused is lost, and its number may come again with something else.
        if self.shared.has_read_since(self.opened) {
            self.refused.take_if(|bad| bad.revision > self.newest);
        }
        // What was found may lead further than the node may go by now.
        if let Stage::Found(steps) = &self.stage
            && steps.last().is_none_or(|last| last.revision > self.head.revision)
        {
            self.stage = Stage::Idle;
        }
        if matches!(self.stage, Stage::Idle)
            && let Way::Ask(holds) = self.way()
        {
            let (shared, environment) = (Arc::clone(&self.shared), self.environment.clone());
            let steps = logged_steps(shared, environment, self.ns, holds, Arc::clone(&self.head));
            self.stage = Stage::Asking(Box::pin(steps));
        }
        Ok(())
    }

    /// Returns when a look may find something else than the last one.
    pub(super) async fn moved(&mut self) -> Result<(), Status> {
        let asked = async {
            match &mut self.stage {
                Stage::Asking(asking) => asking.await,
                _ => std::future::pending().await,
            }
        };
        let found = tokio::select! {
            moved = self.published.changed() => return moved.map_err(|_| gone()),
            found = asked => found,
        };
        self.stage = match found.and_then(|steps| self.fitting(steps)) {
            Some(steps) => Stage::Found(steps),
            None => {
                self.holds = None;
                Stage::Idle
            }
        };
        Ok(())
    }

    /// What it would send next, as of the last look.
    pub(super) fn next(&self) -> Next {
        match &self.stage {
            Stage::Asking(..) | Stage::Sent { .. } => Next::Nothing,
            Stage::Found(..) => Next::Delta,
            Stage::Sending(..) => Next::Chunk,
            Stage::Idle => match self.way() {
                Way::None | Way::Ask(_) => Next::Nothing,
                Way::Delta(_) => Next::Delta,
                Way::Snapshot => Next::Snapshot,
            },
        }
    }

    /// The message [`Cursor::next`] speaks of, which must be sent.
    pub(super) fn take(&mut self) -> Option<Body> {
        match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => match self.way() {
                Way::None | Way::Ask(_) => None,
                Way::Delta(steps) => self.delta(&steps),
                Way::Snapshot => {
                    self.note_if_back();
                    self.piece(Snapshot::of(self.ns, &self.head), self.head.position())
                }
            },
            Stage::Found(steps) => self.delta(&steps),
            Stage::Sending(snapshot, to) => self.piece(snapshot, to),
            stage @ (Stage::Asking(..) | Stage::Sent { .. }) => {
                self.stage = stage;
                None
            }
        }
    }

    /// Says it aloud where a snapshot leads back behind what there is. A rollout that is stopped or begun anew
    /// leads nodes back, too, but nothing is lost by it.
    fn note_if_back(&self) {
        let of_this_epoch = |held: &&Position| self.head.epoch == held.epoch;
        if let Some(held) = self.holds.as_ref().filter(of_this_epoch)
            && held.revision > self.newest
        {
            self.shared.note_set_back(&self.environment, self.ns, held.revision, self.newest);
        }
    }

    fn way(&self) -> Way {
        let head = &self.head;
        let is_led_back =
            |held: &Position| held.epoch == head.epoch && held.revision > head.revision;
        let is_refused = |bad: &Refused| {
            bad.epoch == head.epoch
                && bad.revision >= head.revision
                && !self.holds.as_ref().is_some_and(is_led_back)
        };
        if self.refused.as_ref().is_some_and(is_refused) {
            return Way::None;
        }
        // Epochs are named so that a later one sorts after those before it.
        let is_ahead =
            |(epoch, revision): &(String, u64)| (epoch, *revision) > (&head.epoch, head.revision);
        if self.brought.as_ref().is_some_and(is_ahead) && !self.shared.has_read_since(self.opened) {
            // It had that from another replica, which may be ahead of this one for a moment, or for as
            // long as this one can't read the store: it must not be led back.
            return Way::None;
        }
        let Some(holds) = &self.holds else { return Way::Snapshot };
        if *holds == head.position() {
            return Way::None;
        }
        if holds.epoch != head.epoch || holds.revision >= head.revision {
            return Way::Snapshot;
        }
        let Some(steps) = head.steps_after(holds.revision) else {
            let missed = head.revision - holds.revision;
            let is_far = missed > u64::from(CATCH_UP);
            // Keys go on part by part, as far as the log reaches back, unless all of them are less.
            let is_more = self.ns == Namespace::Keys && head.len() as u64 > missed;
            return if is_far && !is_more { Way::Snapshot } else { Way::Ask(holds.clone()) };
        };
        let fits = head.digest_at(holds.revision) == Some(holds.digest);
        let steps = Some(steps).filter(|_| fits).and_then(|steps| self.fitting(steps));
        steps.map_or(Way::Snapshot, Way::Delta)
    }

    /// As many of the first of these steps as fit into one message; `None` where a snapshot has to do.
    /// Config goes in one: what a node refuses it refuses whole, and waits for what mends it.
    fn fitting(&self, mut steps: Vec<Step>) -> Option<Vec<Step>> {
        let mut size = 0;
        let mut fits = |step: &Step| {
            size += step.size;
            size <= LARGEST_DELTA
        };
        let count = steps.iter().take_while(|step| fits(step)).count();
        let may_be_some = self.ns == Namespace::Keys && count > 0;
        let is_enough = may_be_some || count == steps.len();
        steps.truncate(count);
        is_enough.then_some(steps)
    }

    fn delta(&mut self, steps: &[Step]) -> Option<Body> {
        let from = self.holds.as_ref()?.revision;
        let last = steps.last()?;
        let (epoch, revision) = (self.head.epoch.clone(), last.revision);
        let to = Position { epoch, revision, digest: last.digest };
        let delta = Delta {
            ns: v1::Namespace::from(self.ns).into(),
            epoch: to.epoch.clone(),
            from,
            to: to.revision,
            changes: merge(steps),
            digest_after: to.digest.to_bytes().to_vec(),
        };
        self.shared.counts.deltas.inc();
        self.stage = Stage::Sent { leads_to: to, is_snapshot: false };
        Some(Body::Delta(delta))
    }

    fn piece(&mut self, mut snapshot: Snapshot, to: Position) -> Option<Body> {
        let message = snapshot.next();
        self.stage = if let Some(Body::SnapshotEnd(_)) = message {
            self.shared.counts.snapshots.inc();
            Stage::Sent { leads_to: to, is_snapshot: true }
        } else {
            Stage::Sending(snapshot, to)
        };
        message
    }

    /// Takes note of what the node holds now.
    pub(super) fn acknowledge(&mut self, ack: &Ack) -> Result<Acked, Unexpected> {
        let (sent, unexpected) = match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Sent { leads_to, is_snapshot: true } => (Some(leads_to), Unexpected::Snapshot),
            Stage::Sent { leads_to, is_snapshot: false } => (Some(leads_to), Unexpected::Delta),
            Stage::Sending(..) => return Err(Unexpected::Early),
            Stage::Idle | Stage::Asking(..) | Stage::Found(..) => (None, Unexpected::Delta),
        };
        self.holds = sent.filter(|sent| {
            sent.revision == ack.revision && sent.digest.to_bytes()[..] == ack.digest[..]
        });
        if self.holds.is_some() {
            self.refused = None;
        }
        self.holds.as_ref().map(acked).ok_or(unexpected)
    }

    /// Takes note that the node kept what it had. What was not sent can't be refused: a number
    /// alone must not keep later revisions from the node.
    pub(super) fn refuse(&mut self, nack: &Nack) {
        match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Sent { leads_to, .. } if leads_to.revision == nack.revision => {
                let Position { epoch, revision, .. } = leads_to;
                self.refused = Some(Refused { epoch, revision });
            }
            stage => self.stage = stage,
        }
    }
}

/// What a node may have, and the newest revision there is.
fn seen(
    published: &mut watch::Receiver<Option<Published>>,
    member: &Member,
) -> Option<(Arc<History>, u64)> {
    let published = published.borrow_and_update();
    let published = published.as_ref()?;
    Some((published.of(member), published.head.revision))
}

fn acked(held: &Position) -> Acked {
    Acked { revision: held.revision, digest: Some(held.digest) }
}

fn gone() -> Status {
    Status::not_found("the environment was deleted")
}
