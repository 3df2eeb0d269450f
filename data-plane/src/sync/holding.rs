//! What a node holds of one namespace: the entities as they were sent, their revision and digest.

use std::sync::Arc;

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    model::Size,
    node::v1::{self, Change, Entity, change},
};

use crate::{record::Record, table::Table};

/// The two halves of an environment's state, each with its own revisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Namespace {
    /// Keys: never held back by a fault in the other half.
    Keys,
    /// Routes, upstreams, plans and settings.
    Config,
}

impl Namespace {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Keys, Self::Config];

    /// As written in metrics, logs and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Config => "config",
        }
    }

    /// As sent on the wire.
    pub(crate) fn to_wire(self) -> v1::Namespace {
        match self {
            Self::Keys => v1::Namespace::Keys,
            Self::Config => v1::Namespace::Config,
        }
    }

    /// Reads the wire form.
    pub(crate) fn from_wire(wire: v1::Namespace) -> Option<Self> {
        match wire {
            v1::Namespace::Keys => Some(Self::Keys),
            v1::Namespace::Config => Some(Self::Config),
            v1::Namespace::Unspecified => None,
        }
    }
}

/// A revision, and the history it counts in: in another one the number says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) epoch: Arc<str>,
    pub(crate) revision: u64,
}

/// Everything of one namespace at one revision. A clone shares what neither changes, so that
/// trying a change, keeping the state before it and saving it all cost what the change touches.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// Which history the revision counts in.
    pub(crate) epoch: Arc<str>,
    /// The last committed change in it.
    pub(crate) revision: u64,
    digest: Digest,
    size: Size,
    records: Table<Record>,
}

impl Holding {
    /// Nothing, at the start of a history.
    pub(crate) fn empty(epoch: &str, revision: u64) -> Self {
        Self {
            epoch: epoch.into(),
            revision,
            digest: Digest::default(),
            size: Size::default(),
            records: Table::default(),
        }
    }

    /// The same nothing, which about so many entities are to come into.
    pub(crate) fn foreseeing(self, len: u64) -> Self {
        Self { records: Table::foreseeing(usize::try_from(len).unwrap_or(usize::MAX)), ..self }
    }

    /// The revision it is of.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: Arc::clone(&self.epoch), revision: self.revision }
    }

    /// The digest of all entities.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// How much it is.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// How many entities there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// All entities, in no order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The same as they were sent.
    pub(crate) fn entities(&self) -> impl Iterator<Item = Entity> {
        self.records().map(entity)
    }

    /// The entity of a name.
    pub(crate) fn get(&self, kind: i32, id: &str) -> Option<&Record> {
        let hash = Record::hash_of(kind, id);
        self.records.find(hash, |record| record.is(kind, id))
    }

    /// Takes an entity in, in place of the one of its kind and id.
    pub(crate) fn upsert(&mut self, new: &Entity) {
        self.put(new, Record::new(new.kind, &new.id, &new.value));
    }

    /// The same, without a second copy in memory of what `other` has.
    pub(crate) fn upsert_shared(&mut self, new: &Entity, other: Option<&Self>) {
        let record = other.and_then(|other| other.get(new.kind, &new.id));
        match record.filter(|record| record.value() == new.value) {
            Some(record) => self.put(new, record.clone()),
            None => self.upsert(new),
        }
    }

    fn put(&mut self, new: &Entity, record: Record) {
        self.digest.add(new);
        self.size.add(new.value.len());
        let hash = Record::hash_of(new.kind, &new.id);
        if let Some(old) = self.records.insert(hash, record, |old| old.is(new.kind, &new.id)) {
            self.take_out(&old);
        }
    }

    /// Applies one change. Removing what is not there changes nothing: the digest will tell.
    pub(crate) fn change(&mut self, change: &Change) {
        match &change.change {
            Some(change::Change::Upsert(entity)) => self.upsert(entity),
            Some(change::Change::Delete(gone)) => {
                let hash = Record::hash_of(gone.kind, &gone.id);
                if let Some(old) = self.records.remove(hash, |old| old.is(gone.kind, &gone.id)) {
                    self.take_out(&old);
                }
            }
            None => {}
        }
    }

    fn take_out(&mut self, old: &Record) {
        self.digest.remove(&entity(old));
        self.size.remove(old.value().len());
    }
}

fn entity(record: &Record) -> Entity {
    Entity {
        kind: record.kind(),
        id: record.id().to_owned(),
        value: Bytes::copy_from_slice(record.value()),
    }
}
