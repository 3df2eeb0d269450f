//! Metrics out of rollups: the sums of one step, and the parts that were not added to them yet.

use std::collections::{BTreeMap, HashMap};

use sqlx::QueryBuilder;

use super::{
    Db, Result, Tx,
    rollups::{self, kind_of, sums_of},
    value::to_us,
};
use crate::domain::{Kind, Metrics, MetricsQuery, Sums, Total};

pub(super) async fn read(tx: &mut Tx, query: &MetricsQuery) -> Result<Metrics> {
    let mut found = Found::default();
    rows(tx, query, query.key_id.as_slice(), |kind, sums| found.add(query, &kind, &sums)).await?;
    let mut keys: HashMap<String, Total> = HashMap::new();
    let busiest = busiest_keys(tx, query).await?;
    if !busiest.is_empty() {
        rows(tx, query, &busiest, |kind, sums| {
            let total = keys.entry(kind.key_id.unwrap_or_default()).or_default();
            total.add(kind.status_code, &sums);
        })
        .await?;
    }
    Ok(Metrics {
        totals: found.totals,
        series: found.series,
        keys: most(keys, query.top),
        source_paths: most(found.source_paths, query.top),
        routes: most(found.routes, query.top),
        targets: most(found.targets, query.top),
        errors: most(found.errors, query.top),
    })
}

/// What rows add up to, from several sides.
#[derive(Default)]
struct Found {
    totals: Total,
    series: BTreeMap<i64, Total>,
    source_paths: HashMap<String, Total>,
    routes: HashMap<String, Total>,
    targets: HashMap<String, Total>,
    errors: HashMap<String, Total>,
}

impl Found {
    fn add(&mut self, query: &MetricsQuery, kind: &Kind<String>, sums: &Sums) {
        self.totals.add(kind.status_code, sums);
        let at_us = query.step.floor(kind.at_us);
        self.series.entry(at_us).or_default().add(kind.status_code, sums);
        for (named, name) in [
            (&mut self.source_paths, &kind.source_path),
            (&mut self.routes, &kind.route_id),
            (&mut self.targets, &kind.target_url),
            (&mut self.errors, &kind.error),
        ] {
            if name.is_empty() {
                continue;
            }
            if !named.contains_key(name) {
                named.insert(name.clone(), Total::default());
            }
            if let Some(total) = named.get_mut(name) {
                total.add(kind.status_code, sums);
            }
        }
    }
}

/// The rows of these keys, or of all together where none is named.
async fn rows(
    tx: &mut Tx,
    query: &MetricsQuery,
    keys: &[String],
    mut add: impl FnMut(Kind<String>, Sums),
) -> Result<()> {
    for table in [rollups::table(query.step), rollups::PARTS] {
        let mut select = QueryBuilder::<Db>::new("SELECT * FROM ");
        select.push(table);
        restrict(&mut select, query);
        if !keys.is_empty() {
            select.push(" AND key_id IN (");
            let mut listed = select.separated(", ");
            for key_id in keys {
                listed.push_bind(key_id.clone());
            }
            select.push(")");
        } else if table != rollups::PARTS {
            // Parts are of one key each.
            select.push(" AND key_id IS NULL");
        }
        for row in select.build().fetch_all(&mut **tx).await? {
            add(kind_of(&row)?, sums_of(&row)?);
        }
    }
    Ok(())
}

/// The keys with most requests.
async fn busiest_keys(tx: &mut Tx, query: &MetricsQuery) -> Result<Vec<String>> {
    if let Some(key_id) = &query.key_id {
        return Ok(vec![key_id.clone()]);
    }
    let mut select = QueryBuilder::<Db>::new("SELECT key_id FROM (");
    for (table, union) in [(rollups::table(query.step), ""), (rollups::PARTS, " UNION ALL ")] {
        select.push(union).push("SELECT key_id, requests FROM ").push(table);
        restrict(&mut select, query);
        // Neither those without a key nor the sum of all.
        select.push(" AND key_id > ''");
    }
    select.push(") AS used GROUP BY key_id ORDER BY SUM(requests) DESC, key_id LIMIT ");
    select.push_bind(i64::try_from(query.top).unwrap_or(i64::MAX));
    Ok(select.build_query_scalar().fetch_all(&mut **tx).await?)
}

fn restrict(select: &mut QueryBuilder<Db>, query: &MetricsQuery) {
    select.push(" WHERE environment = ").push_bind(query.environment.as_str().to_owned());
    select.push(" AND at_us >= ").push_bind(to_us(query.from));
    select.push(" AND at_us < ").push_bind(to_us(query.until));
    for (column, value) in [
        ("source_path", &query.source_path),
        ("route_id", &query.route_id),
        ("target_url", &query.target_url),
        ("error", &query.error),
    ] {
        if let Some(value) = value {
            select.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some((first, last)) = query.status {
        select.push(" AND status_code BETWEEN ").push_bind(i32::from(first));
        select.push(" AND ").push_bind(i32::from(last));
    }
}

/// Those with most requests, in that order, and those of as many by name.
fn most(named: HashMap<String, Total>, top: usize) -> Vec<(String, Total)> {
    let mut all: Vec<_> = named.into_iter().collect();
    all.sort_by(|(a, x), (b, y)| y.sums.requests.cmp(&x.sums.requests).then_with(|| a.cmp(b)));
    all.truncate(top);
    all
}
