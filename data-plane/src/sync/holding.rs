//! What a node holds of one namespace: the entities as they were sent, their revision and digest.

use std::sync::Arc;

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    node::v1::{self, Change, Entity, change},
};

use crate::persistent::Persistent;

/// The two halves of an environment's state, each with its own revisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Namespace {
    /// Keys: never held back by a fault in the other half.
    Keys,
    /// Routes, upstreams and settings.
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

/// Everything of one namespace at one revision. A clone shares what neither changes, so that
/// trying a change, keeping the state before it and saving it all cost what the change touches.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// Which history the revision counts in.
    pub(crate) epoch: Arc<str>,
    /// The last committed change in it.
    pub(crate) revision: u64,
    digest: Digest,
    entities: Persistent<EntityName, Bytes>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct EntityName {
    /// As on the wire: of a newer control plane it may be one this node does not know.
    kind: i32,
    id: Arc<str>,
}

impl Holding {
    /// Nothing, at the start of a history.
    pub(crate) fn empty(epoch: &str, revision: u64) -> Self {
        Self {
            epoch: epoch.into(),
            revision,
            digest: Digest::default(),
            entities: Persistent::default(),
        }
    }

    /// The digest of all entities.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// How many entities there are.
    pub(crate) fn len(&self) -> usize {
        self.entities.len()
    }

    /// All entities, in no order.
    pub(crate) fn entities(&self) -> impl Iterator<Item = Entity> {
        self.entities.iter().map(|(name, value)| entity(name, value.clone()))
    }

    /// Takes an entity in, in place of the one of its kind and id.
    pub(crate) fn upsert(&mut self, new: &Entity) {
        let name = EntityName { kind: new.kind, id: new.id.as_str().into() };
        self.digest.add(new);
        // A copy, because what was sent is a slice of a whole message.
        let value = Bytes::copy_from_slice(&new.value);
        if let Some(old) = self.entities.insert(name.clone(), value) {
            self.digest.remove(&entity(&name, old));
        }
    }

    /// Applies one change. Removing what is not there changes nothing: the digest will tell.
    pub(crate) fn change(&mut self, change: &Change) {
        match &change.change {
            Some(change::Change::Upsert(entity)) => self.upsert(entity),
            Some(change::Change::Delete(gone)) => {
                let name = EntityName { kind: gone.kind, id: gone.id.as_str().into() };
                if let Some(old) = self.entities.remove(&name) {
                    self.digest.remove(&entity(&name, old));
                }
            }
            None => {}
        }
    }
}

fn entity(name: &EntityName, value: Bytes) -> Entity {
    Entity { kind: name.kind, id: name.id.to_string(), value }
}
