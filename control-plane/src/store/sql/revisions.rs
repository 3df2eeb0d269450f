//! Heads, entities and the change log: what the config feed reads.

use fastgate::{
    digest::Digest,
    model::Id,
    node::v1::{Entity, EntityKind},
};

use super::{
    Result, Tx, rollouts,
    value::{broken, id, to_i64, to_u64},
};
use crate::{
    domain::Namespace,
    store::{Head, LoggedRevision},
};

/// Bytes of the change log read at once: where a revision is of a thousand keys, few are enough.
const LOG_BYTES: i64 = 4 << 20;

type HeadRow = (String, String, String, i64, Vec<u8>);

pub(super) fn ns_name(ns: Namespace) -> &'static str {
    match ns {
        Namespace::Keys => "keys",
        Namespace::Config => "config",
    }
}

pub(super) async fn heads(tx: &mut Tx) -> Result<Vec<Head>> {
    let rows: Vec<HeadRow> = sqlx::query_as(
        "SELECT environment, ns, epoch, revision, digest FROM config_heads ORDER BY environment, ns",
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut rollouts = rollouts::all(tx).await?;
    let mut heads = rows.into_iter().map(head_of).collect::<Result<Vec<_>>>()?;
    for head in heads.iter_mut().filter(|head| head.ns == Namespace::Config) {
        head.rollout = rollouts.remove(head.environment.as_str());
    }
    Ok(heads)
}

pub(super) async fn head(tx: &mut Tx, environment: &Id, ns: Namespace) -> Result<Option<Head>> {
    let row: Option<HeadRow> = sqlx::query_as(
        "SELECT environment, ns, epoch, revision, digest FROM config_heads \
         WHERE environment = $1 AND ns = $2",
    )
    .bind(environment.as_str())
    .bind(ns_name(ns))
    .fetch_optional(&mut **tx)
    .await?;
    let mut head = row.map(head_of).transpose()?;
    if let Some(head) = head.as_mut().filter(|head| head.ns == Namespace::Config) {
        head.rollout = rollouts::one(tx, environment).await?;
    }
    Ok(head)
}

pub(super) async fn entities(tx: &mut Tx, environment: &Id, ns: Namespace) -> Result<Vec<Entity>> {
    let tables: &[(EntityKind, &'static str)] = match ns {
        Namespace::Keys => {
            &[(EntityKind::Key, "SELECT key_id, entity FROM api_keys WHERE environment = $1")]
        }
        Namespace::Config => &[
            (
                EntityKind::Settings,
                "SELECT environment, entity FROM environments WHERE environment = $1",
            ),
            (
                EntityKind::Upstream,
                "SELECT upstream_id, entity FROM upstreams WHERE environment = $1",
            ),
            (EntityKind::Plan, "SELECT plan_id, entity FROM plans WHERE environment = $1"),
            (EntityKind::Route, "SELECT route_id, entity FROM routes WHERE environment = $1"),
        ],
    };
    let mut entities = Vec::new();
    for (kind, select) in tables {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as(*select).bind(environment.as_str()).fetch_all(&mut **tx).await?;
        entities.extend(rows.into_iter().map(|(id, value)| Entity {
            kind: (*kind).into(),
            id,
            value: value.into(),
        }));
    }
    Ok(entities)
}

pub(super) async fn log(
    tx: &mut Tx,
    environment: &Id,
    ns: Namespace,
    after: u64,
    limit: u32,
) -> Result<Vec<LoggedRevision>> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT revision, delta FROM (SELECT revision, delta, \
         SUM(LENGTH(delta)) OVER (ORDER BY revision) - LENGTH(delta) AS bytes_before \
         FROM config_log WHERE environment = $1 AND ns = $2 AND revision > $3 \
         ORDER BY revision LIMIT $4) AS logged WHERE bytes_before < $5 ORDER BY revision",
    )
    .bind(environment.as_str())
    .bind(ns_name(ns))
    .bind(to_i64(after))
    .bind(i64::from(limit))
    .bind(LOG_BYTES)
    .fetch_all(&mut **tx)
    .await?;
    let logged = |(revision, delta): (i64, Vec<u8>)| LoggedRevision {
        revision: to_u64(revision),
        delta: delta.into(),
    };
    Ok(rows.into_iter().map(logged).collect())
}

fn head_of((environment, ns, epoch, revision, digest): HeadRow) -> Result<Head> {
    let ns = match ns.as_str() {
        "keys" => Namespace::Keys,
        "config" => Namespace::Config,
        _ => return Err(broken(format!("'{ns}' as a namespace"))),
    };
    let digest = Digest::from_bytes(&digest).ok_or_else(|| broken("a digest of another length"))?;
    let (environment, revision) = (id(&environment)?, to_u64(revision));
    Ok(Head { environment, ns, epoch, revision, digest, rollout: None })
}
