//! Keys: a bad one is denied alone.

use std::{collections::HashMap, sync::Arc};

use fastgate::{
    model::{Id, Key, Violations},
    node::v1::{Entity, EntityError, EntityKind, KeyRecord},
};
use http::HeaderValue;

use super::entity::{check_id, decode, entity_errors};
use crate::snapshot::{KeyEntry, KeyTable};

/// All keys of an environment.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) table: KeyTable,
    /// The same keys by id: says which secrets go when a key goes.
    by_id: HashMap<Id, Arc<Key>>,
}

impl Keys {
    /// Takes a record in, or denies the key and says why.
    pub(super) fn upsert(&mut self, entity: &Entity, errors: &mut Vec<EntityError>) {
        // First out with the old: whatever is wrong with the new record, its secrets are denied.
        self.remove(&entity.id);
        if let Err(faults) = self.insert(entity) {
            errors.extend(entity_errors(entity, faults));
        }
    }

    fn insert(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: KeyRecord = decode(entity, EntityKind::Key)?;
        let key = Arc::new(Key::parse(&wire)?);
        check_id("key_id", &key.key_id, entity)?;
        let source_path = HeaderValue::from_str(key.source_path.as_str())
            .map_err(|_| Violations::one("source_path", "can't stand in a header"))?;
        for (at, secret) in key.secrets.iter().enumerate() {
            let mut earlier = key.secrets.iter().take(at);
            if self.table.contains_key(&secret.hash) || earlier.any(|e| e.hash == secret.hash) {
                return Err(Violations::one("secrets", "hold a secret that opens a key already"));
            }
        }
        for secret in &key.secrets {
            let entry = KeyEntry {
                key: key.clone(),
                version: secret.version,
                expires_at: secret.expires_at,
                source_path: source_path.clone(),
            };
            self.table.insert(secret.hash, Arc::new(entry));
        }
        self.by_id.insert(key.key_id.clone(), key);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) {
        for secret in self.by_id.remove(id).iter().flat_map(|key| &key.secrets) {
            self.table.remove(&secret.hash);
        }
    }
}
