//! Turns what the control plane sent into snapshots, or says what is wrong with it.
//!
//! Config is taken all or nothing. A bad key is quarantined alone: it and its secrets are denied
//! until a good record of it comes, so that one bad record never holds back a revocation.
//! Either way a change costs what it touches, never what is already there.

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod config;
mod entity;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fastgate::{
    model::Id,
    node::v1::{Change, Entity, EntityError, change},
};

use self::config::{Config, Draft};
pub(crate) use self::keys::KeyChange;
use crate::{keys::KeyTable, record::Record, snapshot::Snapshot};

/// Holds the state of an environment as it was last taken in, and makes snapshots of it.
pub(crate) struct Compiler {
    environment: Id,
    keys: KeyTable,
    config: Config,
}

impl Compiler {
    /// An empty state.
    pub(crate) fn new(environment: Id) -> Self {
        Self { environment, keys: KeyTable::default(), config: Config::default() }
    }

    /// Replaces all keys, by about so many; returns what was quarantined.
    pub(crate) fn load_keys<'a>(
        &mut self,
        len: usize,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Vec<EntityError> {
        self.keys = KeyTable::foreseeing(len);
        keys::insert(&mut self.keys, records)
    }

    /// Applies changes to keys, each to another one; returns what was quarantined.
    pub(crate) fn change_keys(&mut self, changes: &[KeyChange<'_>]) -> Vec<EntityError> {
        keys::change(&mut self.keys, changes)
    }

    /// Replaces all config, or nothing of it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn load_config(&mut self, entities: Vec<Entity>) -> Result<(), Vec<EntityError>> {
        let mut draft = Draft::of(Config::default());
        for entity in entities {
            draft.upsert(&entity);
        }
        self.config = draft.finish()?;
        Ok(())
    }

    /// Applies all changes to config, or none.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn change_config(&mut self, changes: &[Change]) -> Result<(), Vec<EntityError>> {
        let mut draft = Draft::of(self.config.clone());
        for change in changes {
            match &change.change {
                Some(change::Change::Upsert(entity)) => draft.upsert(entity),
                Some(change::Change::Delete(gone)) => draft.remove(gone),
                None => {}
            }
        }
        self.config = draft.finish()?;
        Ok(())
    }

    /// The state as a snapshot.
    pub(crate) fn snapshot(&self, keys_revision: u64, config_revision: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            environment: self.environment.clone(),
            keys: self.keys.clone(),
            routes: self.config.index.clone(),
            upstreams: self.config.upstreams.clone(),
            plans: self.config.plans.clone(),
            default_rate_limit: self.config.default_rate_limit,
            keys_revision,
            config_revision,
        })
    }
}
