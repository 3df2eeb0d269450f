//! The node's side of the config stream as a state machine: messages in, steps out, no I/O.
//!
//! ```text
//! receive(message) -> Step::Update -> admit(update) -> Outcome::InForce(ack) | Refused(nack)
//! ```
//!
//! Invariants: what is held was compiled and is what snapshots are made of; a refused revision
//! leaves everything as it was; one namespace never waits for the other: a delta of keys may come
//! between the chunks of a config snapshot.

use std::{collections::BTreeSet, mem, sync::Arc};

use fastgate::{
    digest::Digest,
    model::{Id, Size},
    node::v1::{
        Ack, Change, ControlMessage, Delta, EntityError, EntityKind, EntitySet, Heartbeat, Held,
        Nack, Question, Refusal, SnapshotBegin, SnapshotChunk, SnapshotEnd, change,
        control_message::Body,
    },
};
use prost::Message;
use thiserror::Error;

use super::{Holding, Namespace, Position};
use crate::{
    compile::{Compiler, KeyChange},
    snapshot::Snapshot,
};

/// Faults of a refused revision that are told again at the start of a stream.
const TOLD: usize = 20;

/// What a node holds of its environment, and the snapshot being received, if any.
pub(crate) struct Replica {
    keys: Side,
    config: Side,
    incoming: Option<Incoming>,
    /// Config that is not taken into use for now: the process died of it, twice.
    barred: Option<Position>,
    compiler: Compiler,
    /// Keys denied because their record is bad.
    quarantined: Vec<EntityError>,
}

/// One namespace.
#[derive(Default)]
struct Side {
    held: Option<Holding>,
    /// What is held is served, but not what the control plane takes it for: ask for all of it.
    distrusted: bool,
    /// What was refused, and none taken since: no control plane is to send it again.
    refused: Option<Refusal>,
}

/// A snapshot of which the end has not come yet.
struct Incoming {
    ns: Namespace,
    draft: Holding,
    promised: u64,
}

/// What a message asks for.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing yet.
    Continue,
    /// A new state of one namespace, complete and unharmed: to be admitted.
    Update(Update),
    /// The control plane is alive.
    Heartbeat(Heartbeat),
    /// Connect to another control plane.
    Drain,
    /// Somebody asks the node, through the control plane.
    Question(Question),
}

/// A state that came over the stream and has not been compiled yet.
#[derive(Debug)]
pub(crate) struct Update {
    ns: Namespace,
    next: Holding,
    how: How,
}

#[derive(Debug)]
enum How {
    Snapshot,
    Delta(Vec<Change>),
}

impl Update {
    /// The half it is of.
    pub(crate) fn namespace(&self) -> Namespace {
        self.ns
    }

    /// The revision it leads to.
    pub(crate) fn revision(&self) -> u64 {
        self.next.revision
    }

    /// The same, with the history it is of.
    pub(crate) fn position(&self) -> Position {
        self.next.position()
    }

    /// Whether all of the namespace was sent, or what changed.
    pub(crate) fn is_snapshot(&self) -> bool {
        matches!(self.how, How::Snapshot)
    }
}

/// What became of an update.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is held now. The acknowledgement lacks only the time it took.
    InForce(Ack),
    /// Everything is as before.
    Refused(Nack),
}

/// Why the stream can't go on: a new one is to be opened with what [`Replica::held`] says then.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Fault {
    /// A message without meaning here.
    #[error("{0}")]
    Malformed(&'static str),
    /// A chunk that arrived damaged.
    #[error("a snapshot chunk arrived damaged")]
    Damaged,
    /// A delta that does not start from what is held.
    #[error("a delta of {ns} starts at revision {from} of epoch '{epoch}', held is {held}")]
    Gap {
        /// The namespace.
        ns: &'static str,
        /// Where the delta starts.
        from: u64,
        /// Its epoch.
        epoch: String,
        /// What is held instead.
        held: u64,
    },
    /// Both sides hold different things under one revision.
    #[error("{ns} differ from the control plane's at revision {revision}")]
    Diverged {
        /// The namespace.
        ns: &'static str,
        /// The revision.
        revision: u64,
    },
}

impl Replica {
    /// Holds nothing.
    pub(crate) fn new(environment: Id) -> Self {
        Self {
            keys: Side::default(),
            config: Side::default(),
            incoming: None,
            barred: None,
            compiler: Compiler::new(environment),
            quarantined: Vec::new(),
        }
    }

    /// Takes a saved state into use.
    ///
    /// # Errors
    /// What is wrong with it; everything is as before then.
    pub(crate) fn restore(&mut self, ns: Namespace, saved: Holding) -> Result<(), Nack> {
        // What is on the disk says nothing of what a control plane has: a later revision stays refused.
        let is_later =
            |it: &Refusal| it.nack.as_ref().is_some_and(|nack| nack.revision > saved.revision);
        let refused = self.side(ns).refused.clone().filter(is_later);
        match self.admit(Update { ns, next: saved, how: How::Snapshot }) {
            Outcome::InForce(_) => {
                self.side_mut(ns).refused = refused;
                Ok(())
            }
            Outcome::Refused(nack) => Err(nack),
        }
    }

    /// Refuses this revision of config from now on, or none: then what was refused may be sent again.
    pub(crate) fn bar(&mut self, revision: Option<Position>) {
        self.barred = revision;
        if self.barred.is_none() {
            self.config.refused = None;
        }
    }

    /// Goes back to config that was held before, and refuses all from there to this revision, for this reason.
    /// False when that can't be.
    pub(crate) fn take_back(&mut self, before: Holding, bad: u64, why: String) -> bool {
        let bad = Position { epoch: before.epoch.clone(), revision: bad };
        if self.restore(Namespace::Config, before).is_err() {
            return false;
        }
        let next = Holding::empty(&bad.epoch, bad.revision);
        self.barred = Some(bad);
        drop(self.refuse(Namespace::Config, &next, vec![error_of_all(why)]));
        true
    }

    /// Whether an update leads to a revision that is refused unseen.
    pub(crate) fn bars(&self, update: &Update) -> bool {
        update.ns == Namespace::Config && self.barred == Some(update.position())
    }

    /// What to say in Hello. A new stream also forgets the snapshot an old one left half-way.
    pub(crate) fn open_stream(&mut self) -> Vec<Held> {
        self.incoming = None;
        let mut said = Vec::new();
        for ns in Namespace::ALL {
            let side = self.side(ns);
            let Some(held) = &side.held else { continue };
            // Without it what is held is worth nothing, but a control plane that is behind does not lead back.
            let digest = (!side.distrusted).then(|| held.digest().to_bytes().to_vec());
            said.push(Held {
                ns: ns.to_wire().into(),
                epoch: held.epoch.to_string(),
                revision: held.revision,
                digest: digest.unwrap_or_default(),
            });
        }
        said
    }

    /// What to say in Hello of what was refused.
    pub(crate) fn refused(&self) -> Vec<Refusal> {
        Namespace::ALL.into_iter().filter_map(|ns| self.side(ns).refused.clone()).collect()
    }

    /// What is held of a namespace.
    pub(crate) fn held(&self, ns: Namespace) -> Option<&Holding> {
        self.side(ns).held.as_ref()
    }

    /// Keys denied because their record is bad.
    pub(crate) fn quarantined(&self) -> &[EntityError] {
        &self.quarantined
    }

    /// The state to serve from, once there is one of both namespaces.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let keys = self.keys.held.as_ref()?;
        let config = self.config.held.as_ref()?;
        Some(self.compiler.snapshot(keys.revision, config.revision))
    }

    /// Takes in one message.
    ///
    /// # Errors
    /// The stream can't go on.
    pub(crate) fn receive(&mut self, message: ControlMessage) -> Result<Step, Fault> {
        // Of a newer control plane: what it can't do without, it asks for in another way.
        let Some(body) = message.body else { return Ok(Step::Continue) };
        match body {
            Body::SnapshotBegin(begin) => self.begin(&begin).map(|()| Step::Continue),
            Body::SnapshotChunk(chunk) => self.chunk(&chunk).map(|()| Step::Continue),
            Body::SnapshotEnd(end) => self.end(&end).map(Step::Update),
            Body::Delta(delta) => self.delta(delta).map(Step::Update),
            Body::Heartbeat(heartbeat) => Ok(Step::Heartbeat(heartbeat)),
            Body::Drain(_) => Ok(Step::Drain),
            Body::Question(question) => Ok(Step::Question(question)),
        }
    }

    /// Compiles an update and holds it from then on, or refuses it.
    pub(crate) fn admit(&mut self, update: Update) -> Outcome {
        let is_barred = self.bars(&update);
        let Update { ns, next, how } = update;
        let revision = next.revision;
        let compiled = if is_barred {
            Err(vec![error_of_all(barred(revision))])
        } else {
            self.compile(ns, &next, &how)
        };
        if let Err(errors) = compiled {
            return self.refuse(ns, &next, errors);
        }
        let digest = next.digest().to_bytes().to_vec();
        let side = self.side_mut(ns);
        // A later one mends it. If it is an earlier one, the control plane has lost what was refused, and the
        // number may come again with something else.
        side.refused = None;
        side.held = Some(next);
        side.distrusted = false;
        Outcome::InForce(Ack { ns: ns.to_wire().into(), revision, digest, apply_us: 0 })
    }

    fn refuse(&mut self, ns: Namespace, next: &Holding, errors: Vec<EntityError>) -> Outcome {
        let mut nack = Nack { ns: ns.to_wire().into(), revision: next.revision, errors };
        let told = Outcome::Refused(nack.clone());
        nack.errors.truncate(TOLD);
        self.side_mut(ns).refused =
            Some(Refusal { epoch: next.epoch.to_string(), nack: Some(nack) });
        told
    }

    fn compile(
        &mut self,
        ns: Namespace,
        next: &Holding,
        how: &How,
    ) -> Result<(), Vec<EntityError>> {
        if ns == Namespace::Config
            && let Some((unit, held, most)) = next.size().beyond(Size::MOST_CONFIG)
        {
            let told = format!("has {held} {unit} of config, of which a node takes {most}");
            return Err(vec![error_of_all(told)]);
        }
        match (ns, how) {
            (Namespace::Config, How::Snapshot) => {
                self.compiler.load_config(next.entities().collect())
            }
            (Namespace::Config, How::Delta(changes)) => self.compiler.change_config(changes),
            (Namespace::Keys, How::Snapshot) => {
                self.quarantined = self.compiler.load_keys(next.len(), next.records());
                Ok(())
            }
            (Namespace::Keys, How::Delta(changes)) => {
                let held = self.keys.held.as_ref();
                // What several changes made of one key counts once.
                let changed: BTreeSet<_> = changes.iter().filter_map(name).collect();
                let changed = changed.into_iter().map(|(kind, id)| KeyChange {
                    old: held.and_then(|held| held.get(kind, id)),
                    new: next.get(kind, id),
                });
                let found = self.compiler.change_keys(&changed.collect::<Vec<_>>());
                self.quarantined.retain(|error| {
                    !changes.iter().filter_map(name).any(|it| it == (error.kind, &*error.id))
                });
                self.quarantined.extend(found);
                Ok(())
            }
        }
    }

    fn begin(&mut self, begin: &SnapshotBegin) -> Result<(), Fault> {
        if self.incoming.is_some() {
            return Err(Fault::Malformed("a snapshot began inside another"));
        }
        self.incoming = Some(Incoming {
            ns: namespace(begin.ns())?,
            draft: Holding::empty(&begin.epoch, begin.revision).foreseeing(begin.entity_count),
            promised: begin.entity_count,
        });
        Ok(())
    }

    fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<(), Fault> {
        let incoming = self.incoming.as_mut();
        let incoming = incoming.ok_or(Fault::Malformed("a chunk came outside of a snapshot"))?;
        if crc32fast::hash(&chunk.data) != chunk.crc32 {
            return Err(Fault::Damaged);
        }
        let set = EntitySet::decode(chunk.data.clone()).map_err(|_| Fault::Damaged)?;
        if set.entities.iter().any(|entity| is_foreign(incoming.ns, entity.kind)) {
            return Err(FOREIGN);
        }
        // What is held is served to the end of this: most of it will be the same.
        let held = match incoming.ns {
            Namespace::Keys => &self.keys.held,
            Namespace::Config => &self.config.held,
        };
        for entity in &set.entities {
            incoming.draft.upsert_shared(entity, held.as_ref());
        }
        Ok(())
    }

    fn end(&mut self, end: &SnapshotEnd) -> Result<Update, Fault> {
        let incoming = mem::take(&mut self.incoming);
        let Incoming { ns, draft, promised } =
            incoming.ok_or(Fault::Malformed("a snapshot ended that never began"))?;
        // Not marked as distrusted: what is held has nothing to do with this snapshot's faults.
        if Some(draft.digest()) != Digest::from_bytes(&end.digest) || draft.len() as u64 != promised
        {
            return Err(Fault::Diverged { ns: ns.name(), revision: draft.revision });
        }
        Ok(Update { ns, next: draft, how: How::Snapshot })
    }

    fn delta(&mut self, delta: Delta) -> Result<Update, Fault> {
        let ns = namespace(delta.ns())?;
        if self.incoming.as_ref().is_some_and(|incoming| incoming.ns == ns) {
            return Err(Fault::Malformed("a delta came inside a snapshot of its namespace"));
        }
        if delta.to <= delta.from {
            return Err(Fault::Malformed("a delta leads back"));
        }
        let mut names = delta.changes.iter().filter_map(name);
        if names.any(|(kind, _)| is_foreign(ns, kind)) {
            return Err(FOREIGN);
        }
        let side = self.side_mut(ns);
        let held = side.held.as_ref();
        let base = held.filter(|held| {
            held.revision == delta.from && *held.epoch == *delta.epoch && !side.distrusted
        });
        let Some(base) = base else {
            let held = held.map_or(0, |held| held.revision);
            return Err(Fault::Gap { ns: ns.name(), from: delta.from, epoch: delta.epoch, held });
        };
        let mut next = base.clone();
        next.revision = delta.to;
        for change in &delta.changes {
            next.change(change);
        }
        if Some(next.digest()) != Digest::from_bytes(&delta.digest_after) {
            side.distrusted = true;
            return Err(Fault::Diverged { ns: ns.name(), revision: delta.to });
        }
        Ok(Update { ns, next, how: How::Delta(delta.changes) })
    }

    fn side(&self, ns: Namespace) -> &Side {
        match ns {
            Namespace::Keys => &self.keys,
            Namespace::Config => &self.config,
        }
    }

    fn side_mut(&mut self, ns: Namespace) -> &mut Side {
        match ns {
            Namespace::Keys => &mut self.keys,
            Namespace::Config => &mut self.config,
        }
    }
}

fn namespace(wire: fastgate::node::v1::Namespace) -> Result<Namespace, Fault> {
    Namespace::from_wire(wire).ok_or(Fault::Malformed("a message of an unknown namespace"))
}

const FOREIGN: Fault = Fault::Malformed("an entity came in the other namespace");

/// Whether entities of a kind are known to belong into the other namespace. Taken as keys, a config
/// would deny every key there is.
fn is_foreign(ns: Namespace, kind: i32) -> bool {
    match EntityKind::try_from(kind) {
        Ok(EntityKind::Key) => ns != Namespace::Keys,
        Ok(EntityKind::Route | EntityKind::Upstream | EntityKind::Settings | EntityKind::Plan) => {
            ns != Namespace::Config
        }
        Ok(EntityKind::Unspecified) | Err(_) => false,
    }
}

/// Kind and id of what a change is of.
fn name(change: &Change) -> Option<(i32, &str)> {
    match change.change.as_ref()? {
        change::Change::Upsert(entity) => Some((entity.kind, &entity.id)),
        change::Change::Delete(gone) => Some((gone.kind, &gone.id)),
    }
}

/// Why a revision is refused unseen.
pub(crate) fn barred(revision: u64) -> String {
    format!(
        "the node, or requests of it, died twice right after it took revision {revision} into use: \
         it is put aside for now"
    )
}

/// A fault of no single entity.
fn error_of_all(message: String) -> EntityError {
    EntityError {
        kind: EntityKind::Unspecified.into(),
        id: String::new(),
        field: String::new(),
        message,
    }
}

#[cfg(test)]
pub(super) mod tests;
