//! Many new keys of one change, a statement for each thousand.

use std::collections::HashSet;

use fastgate::node::v1::EntityKind;

use super::{
    super::{Db, ROWS, Result},
    Draft, given,
};
use crate::{domain::ApiKey, store::StoreError};

impl Draft<'_> {
    /// Creates keys; returns their etags.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when one of them is there already, or comes twice.
    pub(super) async fn create_keys(&mut self, keys: &[&ApiKey]) -> Result<Vec<String>> {
        let next = self.next_revision(EntityKind::Key)?;
        let etag = format!("{:x}", next.number);
        for some in keys.chunks(ROWS) {
            self.insert_keys(some, &etag).await?;
        }
        Ok(vec![etag; keys.len()])
    }

    async fn insert_keys(&mut self, keys: &[&ApiKey], etag: &str) -> Result<()> {
        let environment = self.change.environment.as_str();
        let now_us = self.now_us;
        let entities: Vec<_> = keys.iter().map(|key| key.entity()).collect();
        let mut insert = sqlx::QueryBuilder::<Db>::new(
            "INSERT INTO api_keys (environment, key_id, source_path, is_active, description, \
             entity, etag, created_us, updated_us, plan_id) ",
        );
        insert.push_values(keys.iter().zip(&entities), |mut row, (key, entity)| {
            row.push_bind(environment)
                .push_bind(key.key_id.as_str())
                .push_bind(&key.source_path)
                .push_bind(key.is_active)
                .push_bind(&key.description)
                .push_bind(&entity.value[..])
                .push_bind(etag)
                .push_bind(now_us)
                .push_bind(now_us)
                .push_bind(given(&key.plan_id));
        });
        // A key that is there, or stands twice in the change, is left out of the answer.
        insert.push(" ON CONFLICT (environment, key_id) DO NOTHING RETURNING key_id");
        let inserted: Vec<(String,)> = insert.build_query_as().fetch_all(&mut **self.tx).await?;
        if inserted.len() < keys.len() {
            return Err(exists(keys, inserted));
        }
        let next = self.next_revision(EntityKind::Key)?;
        for entity in &entities {
            next.upsert(None, entity)?;
        }
        Ok(())
    }
}

/// Names the first key that was not inserted.
fn exists(keys: &[&ApiKey], inserted: Vec<(String,)>) -> StoreError {
    let mut inserted: HashSet<String> = inserted.into_iter().map(|(key_id,)| key_id).collect();
    let first = keys.iter().find(|key| !inserted.remove(key.key_id.as_str()));
    let id = first.map(|key| key.key_id.to_string()).unwrap_or_default();
    StoreError::Exists { kind: "key", id }
}
