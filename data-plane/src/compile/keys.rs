//! Keys: a bad one is denied alone.

use fastgate::{
    model::{Key, Violations},
    node::v1::{EntityError, EntityKind, KeyRecord},
    secret::SecretHash,
};
use prost::Message as _;

use super::entity::check_size;
use crate::{keys::KeyTable, record::Record};

/// What became of one key: what it was, and what it is now.
pub(crate) struct KeyChange<'a> {
    pub(crate) old: Option<&'a Record>,
    pub(crate) new: Option<&'a Record>,
}

/// Applies changes of different keys together, so that a secret may move from one to another.
/// Returns what is wrong with those that are denied.
pub(super) fn change(table: &mut KeyTable, changes: &[KeyChange<'_>]) -> Vec<EntityError> {
    // First out with the old: whatever is wrong with the new record, its secrets are denied.
    for old in changes.iter().filter_map(|change| change.old) {
        // Where it can't be read, it never opened anything.
        let wire = KeyRecord::decode(old.value()).unwrap_or_default();
        for hash in wire.secrets.iter().filter_map(|secret| SecretHash::from_bytes(&secret.hash)) {
            table.remove(&hash, old);
        }
    }
    insert(table, changes.iter().filter_map(|change| change.new))
}

/// Takes keys in. Returns what is wrong with those that are denied.
pub(super) fn insert<'a>(
    table: &mut KeyTable,
    records: impl IntoIterator<Item = &'a Record>,
) -> Vec<EntityError> {
    let mut errors = Vec::new();
    let mut records = records.into_iter();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.extend(records.by_ref().take(BATCH).map(|record| (record, read(record))));
        if batch.is_empty() {
            return errors;
        }
        let keys = batch.iter().filter_map(|(_, key)| key.as_ref().ok()?.as_ref());
        table.touch(keys);
        for (record, key) in batch.drain(..) {
            let done = key.and_then(|key| key.map_or(Ok(()), |key| admit(table, &key, record)));
            errors.extend(done.err().into_iter().flatten().map(|fault| EntityError {
                kind: record.kind(),
                id: record.id().to_owned(),
                field: fault.field,
                message: fault.description,
            }));
        }
    }
}

/// Keys that are read before the first of them is taken in, so that their places are looked up together.
const BATCH: usize = 64;

/// Reads a key; `None`: of a newer control plane, no key at all, and none that is bad.
fn read(record: &Record) -> Result<Option<Key>, Violations> {
    match EntityKind::try_from(record.kind()) {
        Ok(EntityKind::Key) => {}
        Ok(_) => return Err(Violations::one("kind", "does not fit the namespace")),
        Err(_) => return Ok(None),
    }
    check_size(record.value().len())?;
    let wire = KeyRecord::decode(record.value())
        .map_err(|fault| Violations::one("value", format!("can't be read: {fault}")))?;
    let key = Key::parse(&wire)?;
    if key.key_id.as_str() != record.id() {
        return Err(Violations::one("key_id", "differs from the id of the entity"));
    }
    Ok(Some(key))
}

/// Takes a key in, unless another is opened by one of its secrets.
fn admit(table: &mut KeyTable, key: &Key, record: &Record) -> Result<(), Violations> {
    for (at, secret) in key.secrets.iter().enumerate() {
        let mut earlier = key.secrets.iter().take(at);
        if table.get(&secret.hash).is_some() || earlier.any(|e| e.hash == secret.hash) {
            return Err(Violations::one("secrets", "hold a secret that opens a key already"));
        }
    }
    table.insert(key, record);
    Ok(())
}
