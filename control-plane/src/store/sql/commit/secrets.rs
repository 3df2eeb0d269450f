//! Which key a secret opens: in one environment one alone.
//!
//! Of two keys with one secret, a node takes the one it heard of first. After a restart, or once that one
//! is deleted, it would be the other on some nodes and on others none.

use fastgate::{model::Id, node::v1::KeyRecord, secret::SecretHash};
use prost::Message as _;

use super::{
    super::{super::Backend, Db, ROWS, Result, Tx, value},
    revision::hold,
};
use crate::{domain::Namespace, store::StoreError};

/// What becomes of secrets in one change.
#[derive(Default)]
pub(super) struct Moved {
    gone: Vec<Held>,
    new: Vec<Held>,
}

/// A secret of a key.
#[derive(PartialEq, Eq)]
struct Held {
    hash: SecretHash,
    key_id: String,
}

impl Moved {
    /// Notes what a key was, and what it is now.
    pub(super) fn note(&mut self, key_id: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        let (before, after) = (hashes(before), hashes(after));
        let held = |hash: &SecretHash| Held { hash: *hash, key_id: key_id.to_owned() };
        for gone in before.iter().filter(|hash| !after.contains(hash)).map(held) {
            pair_off(&mut self.new, &mut self.gone, gone);
        }
        for new in after.iter().filter(|hash| !before.contains(hash)).map(held) {
            pair_off(&mut self.gone, &mut self.new, new);
        }
    }
}

/// Of what comes and goes in one change, nothing is left.
fn pair_off(others: &mut Vec<Held>, own: &mut Vec<Held>, one: Held) {
    match others.iter().position(|other| *other == one) {
        Some(at) => drop(others.swap_remove(at)),
        None => own.push(one),
    }
}

/// What opens a key. Nothing opens one that can't be read.
fn hashes(entity: Option<&[u8]>) -> Vec<SecretHash> {
    let key = entity.and_then(|entity| KeyRecord::decode(entity).ok()).unwrap_or_default();
    key.secrets.iter().filter_map(|secret| SecretHash::from_bytes(&secret.hash)).collect()
}

/// Writes what becomes of secrets. Those that are free come first, so that one may move from key to key.
///
/// # Errors
/// [`StoreError::SecretTaken`].
pub(super) async fn write(
    tx: &mut Tx,
    environment: &Id,
    moved: impl Iterator<Item = &Moved> + Clone,
) -> Result<()> {
    let gone: Vec<_> = moved.clone().flat_map(|moved| &moved.gone).collect();
    for some in gone.chunks(ROWS) {
        let mut delete =
            sqlx::QueryBuilder::<Db>::new("DELETE FROM key_secrets WHERE environment = ");
        delete.push_bind(environment.as_str()).push(" AND (hash, key_id) IN (");
        delete.push_values(some, |mut row, held| {
            row.push_bind(&held.hash.as_bytes()[..]).push_bind(&held.key_id);
        });
        delete.push(")").build().execute(&mut **tx).await?;
    }
    let new: Vec<_> = moved.flat_map(|moved| &moved.new).collect();
    for some in new.chunks(ROWS) {
        if let Some((held, other)) = insert(tx, environment, some).await?.into_iter().next() {
            return Err(StoreError::SecretTaken { id: held.key_id.clone(), other });
        }
    }
    Ok(())
}

/// Notes secrets; those that open another key already are left out and returned with it.
async fn insert<'a>(
    tx: &mut Tx,
    environment: &Id,
    secrets: &[&'a Held],
) -> Result<Vec<(&'a Held, String)>> {
    let mut insert =
        sqlx::QueryBuilder::<Db>::new("INSERT INTO key_secrets (environment, hash, key_id) ");
    insert.push_values(secrets, |mut row, held| {
        row.push_bind(environment.as_str())
            .push_bind(&held.hash.as_bytes()[..])
            .push_bind(&held.key_id);
    });
    insert.push(" ON CONFLICT (environment, hash) DO NOTHING");
    let inserted = insert.build().execute(&mut **tx).await?.rows_affected();
    let mut taken = Vec::new();
    if inserted == secrets.len() as u64 {
        return Ok(taken);
    }
    for held in secrets {
        let (other,): (String,) =
            sqlx::query_as("SELECT key_id FROM key_secrets WHERE environment = $1 AND hash = $2")
                .bind(environment.as_str())
                .bind(&held.hash.as_bytes()[..])
                .fetch_one(&mut **tx)
                .await?;
        if other != held.key_id {
            taken.push((*held, other));
        }
    }
    Ok(taken)
}

/// Notes the secrets of keys that were there before secrets were noted, a thousand keys at a time. Where
/// two have the same, that stays, and is told.
pub(in super::super) async fn fill(backend: &Backend) -> Result<()> {
    loop {
        let mut tx = backend.write().await?;
        let unnoted: Option<(String,)> =
            sqlx::query_as("SELECT environment FROM keys_unnoted LIMIT 1")
                .fetch_optional(&mut *tx)
                .await?;
        let Some((environment,)) = unnoted else { return Ok(tx.rollback().await?) };
        let environment = value::id(&environment)?;
        // Another replica may be changing them.
        hold(&mut tx, &environment, Namespace::Keys).await?;
        note_some(&mut tx, &environment).await?;
        tx.commit().await?;
    }
}

async fn note_some(tx: &mut Tx, environment: &Id) -> Result<()> {
    let keys: Vec<(String, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT n.key_id, k.entity FROM keys_unnoted n LEFT JOIN api_keys k \
         ON k.environment = n.environment AND k.key_id = n.key_id \
         WHERE n.environment = $1 ORDER BY n.key_id LIMIT $2",
    )
    .bind(environment.as_str())
    .bind(ROWS as i64)
    .fetch_all(&mut **tx)
    .await?;
    let Some((last, _)) = keys.last() else { return Ok(()) };
    let mut moved = Moved::default();
    keys.iter().for_each(|(key_id, entity)| moved.note(key_id, None, entity.as_deref()));
    let new: Vec<_> = moved.new.iter().collect();
    for some in new.chunks(ROWS) {
        for (held, other) in insert(tx, environment, some).await? {
            let key_id = &held.key_id;
            tracing::warn!(
                %environment, key_id, other,
                "two keys have one secret, and nodes may take it for either: rotate one of them"
            );
        }
    }
    sqlx::query("DELETE FROM keys_unnoted WHERE environment = $1 AND key_id <= $2")
        .bind(environment.as_str())
        .bind(last)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
