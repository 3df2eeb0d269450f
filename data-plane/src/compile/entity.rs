//! One entity: what it holds, or what is wrong with it.

use fastgate::{
    model::{Id, Size, Violations},
    node::v1::{Entity, EntityError, EntityKind},
};
use prost::Message;

pub(super) fn decode<M: Message + Default>(
    entity: &Entity,
    kind: EntityKind,
) -> Result<M, Violations> {
    if entity.kind() != kind {
        return Err(Violations::one("kind", "does not fit the namespace"));
    }
    check_size(entity.value.len())?;
    M::decode(entity.value.clone())
        .map_err(|fault| Violations::one("value", format!("can't be read: {fault}")))
}

/// Refuses what no object within its bounds takes.
pub(super) fn check_size(bytes: usize) -> Result<(), Violations> {
    let most = Size::MOST_OF_ONE;
    if bytes as u64 <= most {
        return Ok(());
    }
    Err(Violations::one("value", format!("has {bytes} bytes, of which a node takes {most}")))
}

pub(super) fn check_id(field: &str, id: &Id, entity: &Entity) -> Result<(), Violations> {
    if id.as_str() == entity.id {
        return Ok(());
    }
    Err(Violations::one(field, "differs from the id of the entity"))
}

pub(super) fn entity_error(entity: &Entity, field: String, message: String) -> EntityError {
    EntityError { kind: entity.kind, id: entity.id.clone(), field, message }
}

pub(super) fn entity_errors(
    entity: &Entity,
    faults: Violations,
) -> impl Iterator<Item = EntityError> {
    faults.into_iter().map(|fault| entity_error(entity, fault.field, fault.description))
}
