//! The digest of a set of entities: equal on both sides of the config stream, or something is wrong.
//!
//! A wrapping sum of one 128-bit hash per entity, so that it follows a change in O(1) and does
//! not depend on order. It finds accidents (a lost delta, a bad disk), not attacks: the stream
//! itself is what must be trusted.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::node::v1::Entity;

/// The digest of a set of entities. The default is that of the empty set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Digest(u128);

impl Digest {
    /// Takes an entity into the set. It must not be in it.
    pub fn add(&mut self, entity: &Entity) {
        self.0 = self.0.wrapping_add(hash(entity.kind, &entity.id, &entity.value));
    }

    /// Takes an entity out of the set. It must be in it, with exactly this value.
    pub fn remove(&mut self, entity: &Entity) {
        self.0 = self.0.wrapping_sub(hash(entity.kind, &entity.id, &entity.value));
    }

    /// The form on the wire and on disk: 16 bytes, big endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads the wire form; `None` unless it is 16 bytes long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// For people: 32 hex digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromIterator<Entity> for Digest {
    fn from_iter<I: IntoIterator<Item = Entity>>(entities: I) -> Self {
        let mut digest = Self::default();
        for entity in entities {
            digest.add(&entity);
        }
        digest
    }
}

/// The kind is the number on the wire, so that both sides agree on entities only one of them knows.
fn hash(kind: i32, id: &str, value: &[u8]) -> u128 {
    let mut sha = Sha256::new();
    sha.update(kind.to_be_bytes());
    // The length keeps (id, value) pairs apart that run together to the same bytes.
    sha.update((id.len() as u64).to_be_bytes());
    sha.update(id.as_bytes());
    sha.update(value);
    let out = sha.finalize();
    out.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::v1::EntityKind;

    fn entity(id: &str, value: &str) -> Entity {
        Entity {
            kind: EntityKind::Route.into(),
            id: id.into(),
            value: value.as_bytes().to_vec().into(),
        }
    }

    #[test]
    fn order_does_not_matter() {
        let forth: Digest = [entity("a", "1"), entity("b", "2")].into_iter().collect();
        let back: Digest = [entity("b", "2"), entity("a", "1")].into_iter().collect();
        assert_eq!(forth, back);
    }

    #[test]
    fn removing_undoes_adding() {
        let mut digest: Digest = [entity("a", "1")].into_iter().collect();
        digest.add(&entity("b", "2"));
        digest.remove(&entity("a", "1"));
        assert_eq!(digest, [entity("b", "2")].into_iter().collect());
        digest.remove(&entity("b", "2"));
        assert_eq!(digest, Digest::default());
    }

    #[test]
    fn a_byte_moved_from_id_to_value_shows() {
        let one: Digest = [entity("ab", "c")].into_iter().collect();
        let other: Digest = [entity("a", "bc")].into_iter().collect();
        assert_ne!(one, other);
    }

    #[test]
    fn wire_form_reads_back() {
        let digest: Digest = [entity("a", "1")].into_iter().collect();
        assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
        assert_eq!(Digest::from_bytes(b"short"), None);
    }
}
