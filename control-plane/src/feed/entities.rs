//! The entities of one namespace. A copy shares what neither changes.

use bytes::Bytes;
use fastgate::node::v1::{Entity, EntityKind};

/// Entities by what they are called.
#[derive(Clone, Default)]
pub(super) struct Entities(imbl::HashMap<Name, Bytes>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Name {
    kind: EntityKind,
    id: String,
}

impl Entities {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One after the other, in no order, but each time in the same.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entity> + Send + use<> {
        let entities = self.0.clone().into_iter();
        entities.map(|(Name { kind, id }, value)| Entity { kind: kind.into(), id, value })
    }

    /// Puts one in, and gives back the one it replaces.
    pub(super) fn insert(&mut self, entity: &Entity) -> Option<Entity> {
        let name = Name { kind: entity.kind(), id: entity.id.clone() };
        // A copy: what was read is a slice of the whole row.
        let value = Bytes::copy_from_slice(&entity.value);
        let old = self.0.insert(name, value)?;
        Some(Entity { value: old, ..entity.clone() })
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, kind: EntityKind, id: &str) -> Option<Entity> {
        let name = Name { kind, id: id.to_owned() };
        let value = self.0.remove(&name)?;
        Some(Entity { kind: kind.into(), id: name.id, value })
    }
}
