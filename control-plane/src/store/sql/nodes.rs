//! What the replicas tell each other of their nodes.

use std::time::Duration;

use fastgate::admin::v1::Node;
use prost::Message as _;

use super::{
    Db, NOW_US, Result, Tx,
    value::{broken, to_i64, to_u64},
};
use crate::store::SaidNode;

/// Rows of one statement: 4 values each stay below the 32,766 SQLite takes.
const ROWS: usize = 2000;

pub(super) async fn put(tx: &mut Tx, replica: &str, nodes: &[Node], kept: Duration) -> Result<()> {
    for nodes in nodes.chunks(ROWS) {
        let mut query = sqlx::QueryBuilder::<Db>::new(
            "INSERT INTO nodes (environment, node_id, replica, node, said_us) ",
        );
        query.push_values(nodes, |mut row, node| {
            row.push_bind(&node.environment)
                .push_bind(&node.node_id)
                .push_bind(replica)
                .push_bind(node.encode_to_vec())
                .push(NOW_US);
        });
        query.push(
            " ON CONFLICT (environment, node_id, replica) DO UPDATE SET \
             node = excluded.node, said_us = excluded.said_us",
        );
        query.build().execute(&mut **tx).await?;
    }
    let mut query = sqlx::QueryBuilder::<Db>::new("DELETE FROM nodes WHERE said_us < ");
    query.push(NOW_US).push(" - ").push_bind(to_us(kept));
    query.build().execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn of_others(tx: &mut Tx, replica: &str) -> Result<Vec<SaidNode>> {
    let mut query = sqlx::QueryBuilder::<Db>::new("SELECT node, ");
    query.push(NOW_US).push(" - said_us FROM nodes WHERE replica <> ").push_bind(replica);
    let rows: Vec<(Vec<u8>, i64)> = query.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(said).collect()
}

fn said((node, age_us): (Vec<u8>, i64)) -> Result<SaidNode> {
    let node = Node::decode(&node[..]).map_err(broken)?;
    Ok(SaidNode { node, age: Duration::from_micros(to_u64(age_us)) })
}

fn to_us(time: Duration) -> i64 {
    to_i64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
