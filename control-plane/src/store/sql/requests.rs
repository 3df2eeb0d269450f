//! What calls with a request id were answered.

use super::{
    Result, Tx,
    value::{broken, from_us, to_i64, to_u64},
};
use crate::{
    domain::{CallId, Committed, Repeatable, Replay},
    store::StoreError,
};

/// How long they are kept, in microseconds: a day.
const KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

type Row = (Vec<u8>, Vec<u8>, String, Option<i64>, Option<i64>, i64);

/// What the same call was answered before; [`StoreError::RequestReused`] where its id is another's.
pub(super) async fn find(tx: &mut Tx, call: &CallId, now_us: i64) -> Result<Option<Replay>> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT fingerprint, answer, etags, keys_revision, config_revision, at_us FROM requests \
         WHERE action = $1 AND request_id = $2 AND at_us >= $3",
    )
    .bind(call.action)
    .bind(&call.request_id)
    .bind(now_us - KEPT_US)
    .fetch_optional(&mut **tx)
    .await?;
    let Some((fingerprint, answer, etags, keys_revision, config_revision, at_us)) = row else {
        return Ok(None);
    };
    if fingerprint != call.fingerprint {
        return Err(StoreError::RequestReused { request_id: call.request_id.clone() });
    }
    let committed = Committed {
        at: from_us(at_us),
        keys_revision: keys_revision.map(to_u64),
        config_revision: config_revision.map(to_u64),
        etags: serde_json::from_str(&etags).map_err(broken)?,
    };
    Ok(Some(Replay { committed, answer }))
}

/// Keeps what a call is answered; false where another transaction was faster with its id.
pub(super) async fn keep(
    tx: &mut Tx,
    Repeatable { call, answer }: &Repeatable,
    committed: &Committed,
    now_us: i64,
) -> Result<bool> {
    sqlx::query("DELETE FROM requests WHERE at_us < $1")
        .bind(now_us - KEPT_US)
        .execute(&mut **tx)
        .await?;
    let kept = sqlx::query(
        "INSERT INTO requests (action, request_id, fingerprint, answer, etags, keys_revision, \
         config_revision, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(call.action)
    .bind(&call.request_id)
    .bind(&call.fingerprint[..])
    .bind(&answer[..])
    .bind(serde_json::to_string(&committed.etags).map_err(broken)?)
    .bind(committed.keys_revision.map(to_i64))
    .bind(committed.config_revision.map(to_i64))
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(kept.rows_affected() > 0)
}
