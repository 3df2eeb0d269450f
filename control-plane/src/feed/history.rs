//! One namespace as of one revision, and the last steps that led there.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use fastgate::{
    digest::Digest,
    node::v1::{Change, Delta, Entity, change},
};
use prost::Message as _;
use thiserror::Error;

use super::{entities::Entities, round::UnderWay};
use crate::store::{Head, LoggedRevision};

/// Steps kept in memory; a node further behind is caught up from the store's log, or anew.
const KEPT: usize = 1024;

/// Bytes of steps kept in memory, whatever their number: an import makes steps of a thousand keys.
const KEPT_BYTES: usize = 16 << 20;

/// Bytes of changes one delta may hold, below the 4 MiB gRPC clients take in one message unless
/// told otherwise. What is larger comes as a snapshot, in chunks.
pub(super) const LARGEST_DELTA: usize = 3 << 20;

/// Everything of one namespace at one revision. A clone shares what neither changes.
#[derive(Clone)]
pub(super) struct History {
    pub(super) epoch: String,
    pub(super) revision: u64,
    pub(super) digest: Digest,
    entities: Entities,
    /// What takes all of it to nodes at the moment.
    pub(super) under_way: UnderWay,
    /// The revision the oldest step starts from, and its digest.
    base: (u64, Digest),
    /// The last steps, oldest first, without gaps, from `base` up to `revision`.
    steps: imbl::Vector<Step>,
    /// Bytes of all of them.
    steps_size: usize,
}

/// What is held at one revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) revision: u64,
    pub(super) digest: Digest,
}

#[derive(Clone)]
pub(super) struct Step {
    pub(super) revision: u64,
    pub(super) digest: Digest,
    pub(super) changes: Arc<[Change]>,
    /// Bytes the changes take on the wire.
    pub(super) size: usize,
}

/// Why a logged step does not follow on what is here.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("revision {found} stands where {expected} should")]
    Gap { expected: u64, found: u64 },
    #[error("revision {0} belongs to another epoch")]
    Epoch(u64),
    #[error("the entities have another digest than revision {0} says")]
    Digest(u64),
    #[error("revision {0} can't be read: {1}")]
    Unreadable(u64, prost::DecodeError),
}

impl History {
    /// All there is at a head.
    ///
    /// # Errors
    /// When the entities are not those the head speaks of.
    pub(super) fn load(head: &Head, entities: Vec<Entity>) -> Result<Self, Fault> {
        let mut history = Self {
            epoch: head.epoch.clone(),
            revision: head.revision,
            digest: Digest::default(),
            entities: Entities::default(),
            under_way: UnderWay::default(),
            base: (head.revision, head.digest),
            steps: imbl::Vector::new(),
            steps_size: 0,
        };
        for entity in entities {
            history.upsert(&entity);
        }
        if history.digest != head.digest {
            return Err(Fault::Digest(head.revision));
        }
        Ok(history)
    }

    /// Goes one revision on.
    ///
    /// # Errors
    /// When the step does not follow on this; what is here is of no use then.
    pub(super) fn advance(&mut self, logged: &LoggedRevision) -> Result<(), Fault> {
        let expected = self.revision + 1;
        if logged.revision != expected {
            return Err(Fault::Gap { expected, found: logged.revision });
        }
        let step = Step::read(logged, &self.epoch)?;
        for change in step.changes.iter() {
            self.change(change);
        }
        if self.digest != step.digest {
            return Err(Fault::Digest(expected));
        }
        self.revision = expected;
        self.steps_size += step.size;
        self.steps.push_back(step);
        while (self.steps.len() > KEPT || self.steps_size > KEPT_BYTES)
            && self.steps.len() > 1
            && let Some(oldest) = self.steps.pop_front()
        {
            self.steps_size -= oldest.size;
            self.base = (oldest.revision, oldest.digest);
        }
        Ok(())
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), revision: self.revision, digest: self.digest }
    }

    /// The steps after a revision up to this one; `None` where memory does not reach back as far.
    pub(super) fn steps_after(&self, revision: u64) -> Option<Vec<Step>> {
        if revision > self.revision {
            return None;
        }
        let held = usize::try_from(revision.checked_sub(self.base.0)?).ok()?;
        // By their places: to walk to the last of a thousand steps, for each node, would take longer than
        // all else that is done to send it.
        let after = held..self.steps.len();
        Some(after.filter_map(|place| self.steps.get(place).cloned()).collect())
    }

    /// The digest at a revision, as far as memory reaches back.
    pub(super) fn digest_at(&self, revision: u64) -> Option<Digest> {
        let after = usize::try_from(revision.checked_sub(self.base.0)?).ok()?;
        match after.checked_sub(1) {
            Some(at) => self.steps.get(at).map(|step| step.digest),
            None => Some(self.base.1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// All entities as they are now.
    pub(super) fn entities(&self) -> Entities {
        self.entities.clone()
    }

    fn change(&mut self, change: &Change) {
        match &change.change {
            Some(change::Change::Upsert(entity)) => self.upsert(entity),
            Some(change::Change::Delete(gone)) => {
                if let Some(old) = self.entities.remove(gone.kind(), &gone.id) {
                    self.digest.remove(&old);
                }
            }
            None => {}
        }
    }

    fn upsert(&mut self, entity: &Entity) {
        self.digest.add(entity);
        if let Some(old) = self.entities.insert(entity) {
            self.digest.remove(&old);
        }
    }
}

impl Step {
    /// Reads a row of the change log.
    pub(super) fn read(logged: &LoggedRevision, epoch: &str) -> Result<Self, Fault> {
        let revision = logged.revision;
        let delta = Delta::decode(logged.delta.clone())
            .map_err(|fault| Fault::Unreadable(revision, fault))?;
        if delta.epoch != epoch {
            return Err(Fault::Epoch(revision));
        }
        let digest = Digest::from_bytes(&delta.digest_after).ok_or(Fault::Digest(revision))?;
        Ok(Self { revision, digest, changes: delta.changes.into(), size: logged.delta.len() })
    }
}

/// The changes of several steps as those of one: of each object only the last.
pub(super) fn merge(steps: &[Step]) -> Vec<Change> {
    if let [step] = steps {
        return step.changes.to_vec();
    }
    let mut seen = HashSet::new();
    let mut last = VecDeque::new();
    for change in steps.iter().rev().flat_map(|step| step.changes.iter().rev()) {
        let name = match &change.change {
            Some(change::Change::Upsert(entity)) => (entity.kind, &entity.id),
            Some(change::Change::Delete(gone)) => (gone.kind, &gone.id),
            None => continue,
        };
        if seen.insert(name) {
            last.push_front(change.clone());
        }
    }
    last.into()
}
