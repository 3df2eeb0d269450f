//! The revision a change makes in one namespace: taken first, filled with what is written, logged last.

use fastgate::{
    digest::Digest,
    model::{Id, Size, writable},
    node::v1::{self, Entity, EntityRef, change},
};
use prost::Message as _;
use uuid::Uuid;

use super::{
    super::{
        Db, Result, Tx,
        history::encode_undo,
        revisions::ns_name,
        value::{broken, not_found, to_i64, to_u64},
    },
    secrets::Moved,
    staging::Position,
};
use crate::{
    domain::{Change, Namespace},
    store::StoreError,
};

/// Revisions kept in the log: a node further behind gets a snapshot. What a rollout under way may have to
/// take back is kept as well.
const LOG_KEPT: i64 = 10_000;

/// The next revision of a namespace, under way.
pub(super) struct NextRevision {
    ns: Namespace,
    epoch: String,
    pub(super) number: u64,
    digest_before: Digest,
    digest: Digest,
    /// How much there was before.
    size_before: Size,
    size: Size,
    changes: Vec<v1::Change>,
    /// What takes each of them back. Of keys nothing: nobody is to get a revoked one back.
    undo: Option<Vec<v1::Change>>,
    /// Of keys.
    pub(super) secrets: Moved,
}

impl NextRevision {
    /// Takes the next revision. Its head stays locked to the end of the transaction: commit order
    /// is revision order.
    pub(super) async fn take(tx: &mut Tx, environment: &Id, ns: Namespace) -> Result<Self> {
        let row: Option<(String, i64, Vec<u8>, i64, i64)> = sqlx::query_as(
            "UPDATE config_heads SET revision = revision + 1 WHERE environment = $1 AND ns = $2 \
             RETURNING epoch, revision, digest, entities, bytes",
        )
        .bind(environment.as_str())
        .bind(ns_name(ns))
        .fetch_optional(&mut **tx)
        .await?;
        let (epoch, revision, digest, entities, bytes) =
            row.ok_or_else(|| not_found("environment", environment.as_str()))?;
        let digest = Digest::from_bytes(&digest).ok_or_else(|| broken("a digest's length"))?;
        let size = Size { entities: to_u64(entities), bytes: to_u64(bytes) };
        Ok(Self {
            ns,
            epoch,
            number: to_u64(revision),
            digest_before: digest,
            digest,
            size_before: size,
            size,
            changes: Vec::new(),
            undo: (ns == Namespace::Config).then(Vec::new),
            secrets: Moved::default(),
        })
    }

    /// The same, of which nothing is written yet.
    pub(super) fn again(&self) -> Self {
        Self {
            epoch: self.epoch.clone(),
            changes: Vec::new(),
            undo: self.undo.as_ref().map(|_| Vec::new()),
            secrets: Moved::default(),
            ..*self
        }
    }

    /// The one after it.
    pub(super) fn following(&self) -> Self {
        Self {
            number: self.number + 1,
            digest_before: self.digest,
            size_before: self.size,
            ..self.again()
        }
    }

    /// The one before it, where nothing came of this one.
    pub(super) fn give_back(&self) -> Self {
        Self { number: self.number.saturating_sub(1), ..self.again() }
    }

    /// What there was, and what is made of it.
    pub(super) fn positions(&self) -> (Position, Position) {
        let before =
            Position { revision: self.number.saturating_sub(1), digest: self.digest_before };
        (before, Position { revision: self.number, digest: self.digest })
    }

    /// Notes that an entity takes the place of what was there, if anything was.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub(super) fn upsert(&mut self, before: Option<Vec<u8>>, entity: &Entity) -> Result<()> {
        let (bytes, most) = (entity.value.len() as u64, writable(Size::MOST_OF_ONE));
        if bytes > most {
            let (kind, id) = (entity.kind().noun(), entity.id.clone());
            return Err(StoreError::TooLarge { kind, id, bytes, most });
        }
        if self.ns == Namespace::Keys {
            self.secrets.note(&entity.id, before.as_deref(), Some(&entity.value));
        }
        let before = before.map(|value| Entity { value: value.into(), ..entity.clone() });
        if let Some(before) = &before {
            self.digest.remove(before);
            self.size.remove(before.value.len());
        }
        self.digest.add(entity);
        self.size.add(entity.value.len());
        self.note_undo(match before {
            Some(before) => change::Change::Upsert(before),
            None => change::Change::Delete(EntityRef { kind: entity.kind, id: entity.id.clone() }),
        });
        self.changes.push(v1::Change { change: Some(change::Change::Upsert(entity.clone())) });
        Ok(())
    }

    /// Notes that an entity is gone.
    pub(super) fn delete(&mut self, before: Option<Vec<u8>>, gone: EntityRef) {
        if self.ns == Namespace::Keys {
            self.secrets.note(&gone.id, before.as_deref(), None);
        }
        if let Some(value) = before {
            let before = Entity { kind: gone.kind, id: gone.id.clone(), value: value.into() };
            self.digest.remove(&before);
            self.size.remove(before.value.len());
            self.note_undo(change::Change::Upsert(before));
        }
        self.changes.push(v1::Change { change: Some(change::Change::Delete(gone)) });
    }

    fn note_undo(&mut self, change: change::Change) {
        if let Some(undo) = &mut self.undo {
            undo.push(v1::Change { change: Some(change) });
        }
    }

    /// Refuses to let that grow which nodes take so much of.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn check_size(&self, environment: &Id) -> Result<()> {
        let (what, most) = match self.ns {
            Namespace::Keys => ("keys", Size::MOST_KEYS),
            Namespace::Config => ("config", Size::MOST_CONFIG),
        };
        // What shrinks is let through, whatever is left.
        let most = most.writable();
        let most = Size {
            entities: most.entities.max(self.size_before.entities),
            bytes: most.bytes.max(self.size_before.bytes),
        };
        match self.size.beyond(most) {
            Some((unit, held, most)) => {
                let environment = environment.to_string();
                Err(StoreError::Full { environment, what, unit, held, most })
            }
            None => Ok(()),
        }
    }

    /// Writes number, digest and size; false where the head is gone.
    pub(super) async fn write_head(&self, tx: &mut Tx, environment: &Id) -> Result<bool> {
        let head = sqlx::query(
            "UPDATE config_heads SET revision = $3, digest = $4, entities = $5, bytes = $6 \
             WHERE environment = $1 AND ns = $2",
        )
        .bind(environment.as_str())
        .bind(ns_name(self.ns))
        .bind(to_i64(self.number))
        .bind(&self.digest.to_bytes()[..])
        .bind(to_i64(self.size.entities))
        .bind(to_i64(self.size.bytes))
        .execute(&mut **tx)
        .await?;
        Ok(head.rows_affected() > 0)
    }

    /// What nodes are sent of it, and what takes it back.
    fn into_log(self) -> (v1::Delta, Option<Vec<u8>>) {
        let delta = v1::Delta {
            ns: v1::Namespace::from(self.ns).into(),
            epoch: self.epoch,
            from: self.number.saturating_sub(1),
            to: self.number,
            changes: self.changes,
            digest_after: self.digest.to_bytes().to_vec(),
        };
        (delta, self.undo.map(encode_undo))
    }
}

/// Writes the log of revisions of one namespace, the newest one last.
pub(super) async fn log(
    tx: &mut Tx,
    environment: &Id,
    revisions: Vec<(NextRevision, &Change)>,
    now_us: i64,
) -> Result<()> {
    let Some((newest, _)) = revisions.last() else { return Ok(()) };
    let (environment, ns) = (environment.as_str(), ns_name(newest.ns));
    let kept_after = to_i64(newest.number) - LOG_KEPT;
    let mut insert = sqlx::QueryBuilder::<Db>::new(
        "INSERT INTO config_log (environment, ns, revision, delta, token_id, at_us, action, undo) ",
    );
    insert.push_values(revisions, |mut row, (revision, change)| {
        let number = to_i64(revision.number);
        let (delta, undo) = revision.into_log();
        row.push_bind(environment)
            .push_bind(ns)
            .push_bind(number)
            .push_bind(delta.encode_to_vec())
            .push_bind(&change.actor.token_id)
            .push_bind(now_us)
            .push_bind(change.action)
            .push_bind(undo);
    });
    insert.build().execute(&mut **tx).await?;
    sqlx::query(
        "DELETE FROM config_log WHERE environment = $1 AND ns = $2 AND revision <= $3 \
         AND ($2 = 'keys' OR NOT EXISTS (SELECT 1 FROM rollouts r WHERE r.environment = $1 \
         AND r.base < config_log.revision AND r.state IN ('running', 'paused', 'stopped')))",
    )
    .bind(environment)
    .bind(ns)
    .bind(kept_after)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps a namespace as it is to the end of the transaction, without a revision of it.
pub(super) async fn hold(tx: &mut Tx, environment: &Id, ns: Namespace) -> Result<()> {
    sqlx::query("UPDATE config_heads SET revision = revision WHERE environment = $1 AND ns = $2")
        .bind(environment.as_str())
        .bind(ns_name(ns))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The heads of a new environment, in an epoch of its own: what nodes hold of an earlier one of
/// the same name is worth nothing. False where there are some already.
pub(super) async fn create_heads(tx: &mut Tx, environment: &Id) -> Result<bool> {
    for ns in [Namespace::Config, Namespace::Keys] {
        let created = sqlx::query(
            "INSERT INTO config_heads (environment, ns, epoch, revision, digest) \
             VALUES ($1, $2, $3, 0, $4) ON CONFLICT DO NOTHING",
        )
        .bind(environment.as_str())
        .bind(ns_name(ns))
        .bind(Uuid::now_v7().simple().to_string())
        .bind(&Digest::default().to_bytes()[..])
        .execute(&mut **tx)
        .await?;
        if created.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
