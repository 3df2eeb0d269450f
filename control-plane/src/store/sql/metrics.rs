//! Metrics out of rollups: the sums of one step, and the parts that were not added to them yet.

use std::collections::{BTreeMap, HashMap};

use sqlx::QueryBuilder;

use super::{
    Db, Result, Tx,
    parts::{self, Line},
    rollups::{self, kind_of, sums_of},
    value::{to_u64, to_us},
};
use crate::domain::{Kind, Metrics, MetricsQuery, Step, Sums, Total};

pub(super) async fn read(tx: &mut Tx, query: &MetricsQuery) -> Result<Metrics> {
    let parts = parts::all(tx, query.environment.as_str()).await?;
    let mut found = Found::default();
    settled(tx, query, query.key_id.as_slice(), |kind, sums| {
        found.add(query, &kind.as_ref(), &sums);
    })
    .await?;
    // By key, how many requests.
    let mut used: HashMap<String, u64> = HashMap::new();
    unsettled(&parts, query, |line| {
        found.add(query, &line.kind, &line.sums()?);
        let key_id = line.kind.key_id.unwrap_or_default();
        match used.get_mut(key_id) {
            Some(count) => *count = count.saturating_add(line.requests),
            None if key_id.is_empty() => {}
            None => drop(used.insert(key_id.to_owned(), line.requests)),
        }
        Ok(())
    })?;
    let busiest = busiest_keys(tx, query, used).await?;
    let mut keys: HashMap<String, Total> = HashMap::new();
    if !busiest.is_empty() {
        settled(tx, query, &busiest, |kind, sums| {
            let total = keys.entry(kind.key_id.unwrap_or_default()).or_default();
            total.add(kind.status_code, &sums);
        })
        .await?;
    }
    unsettled(&parts, query, |line| {
        let key_id = line.kind.key_id.unwrap_or_default();
        if busiest.iter().any(|busy| busy == key_id) {
            let total = keys.entry(key_id.to_owned()).or_default();
            total.add(line.kind.status_code, &line.sums()?);
        }
        Ok(())
    })?;
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
    fn add(&mut self, query: &MetricsQuery, kind: &Kind<&str>, sums: &Sums) {
        self.totals.add(kind.status_code, sums);
        let at_us = query.step.floor(kind.at_us);
        self.series.entry(at_us).or_default().add(kind.status_code, sums);
        for (named, name) in [
            (&mut self.source_paths, kind.source_path),
            (&mut self.routes, kind.route_id),
            (&mut self.targets, kind.target_url),
            (&mut self.errors, kind.error),
        ] {
            if name.is_empty() {
                continue;
            }
            if !named.contains_key(name) {
                named.insert(name.to_owned(), Total::default());
            }
            if let Some(total) = named.get_mut(name) {
                total.add(kind.status_code, sums);
            }
        }
    }
}

/// The sums of these keys, or of all together where none is named.
async fn settled(
    tx: &mut Tx,
    query: &MetricsQuery,
    keys: &[String],
    mut add: impl FnMut(Kind<String>, Sums),
) -> Result<()> {
    let mut select = QueryBuilder::<Db>::new("SELECT * FROM ");
    select.push(rollups::table(query.step));
    restrict(&mut select, query);
    if keys.is_empty() {
        select.push(" AND key_id IS NULL");
    } else {
        select.push(" AND key_id IN (");
        let mut listed = select.separated(", ");
        for key_id in keys {
            listed.push_bind(key_id.clone());
        }
        select.push(")");
    }
    for row in select.build().fetch_all(&mut **tx).await? {
        add(kind_of(&row)?, sums_of(&row)?);
    }
    Ok(())
}

/// The lines of parts the query is about.
fn unsettled<'a>(
    parts: &'a [Vec<u8>],
    query: &MetricsQuery,
    mut show: impl FnMut(Line<'a>) -> Result<()>,
) -> Result<()> {
    let (from_us, until_us) = (to_us(query.from), to_us(query.until));
    let is = |asked: &Option<String>, is: &str| asked.as_ref().is_none_or(|asked| asked == is);
    let is_asked = |kind: &Kind<&str>| {
        (from_us..until_us).contains(&kind.at_us)
            && is(&query.key_id, kind.key_id.unwrap_or_default())
            && is(&query.source_path, kind.source_path)
            && is(&query.route_id, kind.route_id)
            && is(&query.target_url, kind.target_url)
            && is(&query.error, kind.error)
            && query.status.is_none_or(|(first, last)| {
                (i32::from(first)..=i32::from(last)).contains(&i32::from(kind.status_code))
            })
    };
    for part in parts {
        parts::each(part, |line| if is_asked(&line.kind) { show(line) } else { Ok(()) })?;
    }
    Ok(())
}

/// The keys with most requests; `used` has those of parts.
async fn busiest_keys(
    tx: &mut Tx,
    query: &MetricsQuery,
    mut used: HashMap<String, u64>,
) -> Result<Vec<String>> {
    if let Some(key_id) = &query.key_id {
        return Ok(vec![key_id.clone()]);
    }
    let mut select = QueryBuilder::<Db>::new("SELECT key_id, CAST(SUM(requests) AS BIGINT) FROM ");
    let asks_for_all = query.source_path.is_none()
        && query.route_id.is_none()
        && query.target_url.is_none()
        && query.error.is_none()
        && query.status.is_none();
    if asks_for_all && query.step != Step::Minute {
        select.push("rollup_keys");
        restrict(&mut select, query);
        select.push(" AND step = ").push_bind(rollups::name(query.step));
    } else {
        select.push(rollups::table(query.step));
        restrict(&mut select, query);
    }
    // Neither those without a key nor the sum of all.
    select.push(" AND key_id > '' GROUP BY key_id");
    let rows: Vec<(String, i64)> = select.build_query_as().fetch_all(&mut **tx).await?;
    for (key_id, requests) in rows {
        let count = used.entry(key_id).or_default();
        *count = count.saturating_add(to_u64(requests));
    }
    let mut used: Vec<_> = used.into_iter().collect();
    used.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    used.truncate(query.top);
    Ok(used.into_iter().map(|(key_id, _)| key_id).collect())
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
