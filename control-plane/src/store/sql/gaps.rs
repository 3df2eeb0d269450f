//! Events that nodes recorded and lost: noted once each, however often a node tells of them.

use fastgate::{admin::v1::LogGap, model::Id};

use super::{
    Db, Result, Tx,
    value::{from_us, to_i64, to_u64},
};
use crate::{
    domain::EventBatch,
    store::{Cursor, Page},
};

/// Notes what a batch tells as lost. How many events are newly known to be.
pub(super) async fn store(tx: &mut Tx, batch: &EventBatch, now_us: i64) -> Result<u64> {
    let mut lost = 0;
    for gap in &batch.gaps {
        let added = sqlx::query(
            "INSERT INTO event_gaps \
             (node_id, boot_id, first_seq, events, reason, environment, at_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(&batch.node_id)
        .bind(&batch.boot_id)
        .bind(to_i64(gap.first_seq))
        .bind(to_i64(gap.events))
        .bind(&gap.reason)
        .bind(batch.environment.as_str())
        .bind(now_us)
        .execute(&mut **tx)
        .await?;
        if added.rows_affected() > 0 {
            lost = gap.events.saturating_add(lost);
        }
    }
    Ok(lost)
}

type Row = (i64, String, String, i64, i64, String);

/// Those noted last first, of one node or all. No two starts have the same id, whichever node's.
pub(super) async fn list(
    tx: &mut Tx,
    environment: &Id,
    node_id: Option<&str>,
    page: &Page,
) -> Result<Vec<(Cursor, LogGap)>> {
    let mut query = sqlx::QueryBuilder::<Db>::new(
        "SELECT at_us, node_id, boot_id, first_seq, events, reason FROM event_gaps \
         WHERE environment = ",
    );
    query.push_bind(environment.as_str());
    if let Some(node_id) = node_id {
        query.push(" AND node_id = ").push_bind(node_id);
    }
    if let Some(after) = &page.after {
        let (first_seq, boot_id) = after.id.split_once(' ').unwrap_or_default();
        query.push(" AND (at_us, boot_id, first_seq) < (").push_bind(after.at_us);
        query.push(", ").push_bind(boot_id);
        query.push(", ").push_bind(first_seq.parse().unwrap_or(0_i64)).push(")");
    }
    query.push(" ORDER BY at_us DESC, boot_id DESC, first_seq DESC LIMIT ");
    query.push_bind(i64::from(page.limit));
    let rows: Vec<Row> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| gap_of(environment, row)).collect())
}

fn gap_of(environment: &Id, row: Row) -> (Cursor, LogGap) {
    let (at_us, node_id, boot_id, first_seq, events, reason) = row;
    let cursor = Cursor { at_us, id: format!("{first_seq} {boot_id}") };
    let (first_seq, events) = (to_u64(first_seq), to_u64(events));
    let gap = LogGap {
        timestamp: Some(from_us(at_us).into()),
        environment: environment.to_string(),
        node_id,
        boot_id,
        first_seq,
        last_seq: first_seq.saturating_add(events).saturating_sub(1),
        events,
        reason,
    };
    (cursor, gap)
}
