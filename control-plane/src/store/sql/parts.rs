//! What batches add to sums, until it is added up: the sums of one batch are one row.
//!
//! A row for each sum would be as many as there are keys in a batch, each written and deleted
//! again within a minute. So they are bytes, read by whoever asks for sums in that time.

use super::{Db, Result, Rows, Tx, value::broken};
use crate::domain::{
    Histogram, Kind, Rollup, Sums,
    varint::{put, take},
};

/// One sum as it stands in the bytes.
pub(super) struct Line<'a> {
    pub(super) kind: Kind<&'a str>,
    pub(super) requests: u64,
    pub(super) last_us: i64,
    rate_limited: u64,
    request_bytes: u64,
    response_bytes: u64,
    latency: &'a [u8],
}

impl Line<'_> {
    pub(super) fn sums(&self) -> Result<Sums> {
        let latency = Histogram::from_bytes(self.latency);
        Ok(Sums {
            requests: self.requests,
            rate_limited: self.rate_limited,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            last_us: self.last_us,
            latency: latency.ok_or_else(|| broken("a histogram of another form"))?,
        })
    }
}

/// Adds what a batch comes to.
pub(super) async fn add<S: AsRef<str>>(
    tx: &mut Tx,
    environment: &str,
    rollup: &Rollup<S>,
) -> Result<()> {
    if rollup.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new("rollup_parts", &["environment", "sums"]);
    rows.begin();
    rows.text(environment);
    rows.blob(&encode(rollup));
    Ok(rows.store(tx).await?)
}

/// The number of the last part there is.
pub(super) async fn last(tx: &mut Tx) -> Result<i64> {
    let last = sqlx::query_scalar("SELECT COALESCE(MAX(part), 0) FROM rollup_parts");
    Ok(last.fetch_one(&mut **tx).await?)
}

/// The oldest parts up to this one, at most so many, which are parts no longer, each with its
/// environment.
pub(super) async fn take_oldest(
    tx: &mut Tx,
    last: i64,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>> {
    let taken = sqlx::query_as(
        "DELETE FROM rollup_parts \
         WHERE part IN (SELECT part FROM rollup_parts WHERE part <= $1 ORDER BY part LIMIT $2) \
         RETURNING environment, sums",
    );
    Ok(taken.bind(last).bind(limit).fetch_all(&mut **tx).await?)
}

/// All parts of an environment.
pub(super) async fn all(tx: &mut Tx, environment: &str) -> Result<Vec<Vec<u8>>> {
    let found = sqlx::query_scalar::<Db, _>("SELECT sums FROM rollup_parts WHERE environment = $1");
    Ok(found.bind(environment).fetch_all(&mut **tx).await?)
}

/// Shows every line of a part.
pub(super) fn each<'a>(
    mut part: &'a [u8],
    mut show: impl FnMut(Line<'a>) -> Result<()>,
) -> Result<()> {
    while !part.is_empty() {
        let line = decode(&mut part).ok_or_else(|| broken("sums of another form"))?;
        show(line)?;
    }
    Ok(())
}

fn encode<S: AsRef<str>>(rollup: &Rollup<S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, sums) in rollup {
        let key_id = kind.key_id.as_ref().map(AsRef::as_ref).unwrap_or_default();
        for text in [
            key_id,
            kind.source_path.as_ref(),
            kind.route_id.as_ref(),
            kind.target_url.as_ref(),
            kind.error.as_ref(),
        ] {
            put(text.len() as u64, &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
        for number in [
            kind.at_us.unsigned_abs(),
            kind.status_code.unsigned_abs().into(),
            sums.requests,
            sums.last_us.unsigned_abs(),
            sums.rate_limited,
            sums.request_bytes,
            sums.response_bytes,
        ] {
            put(number, &mut bytes);
        }
        let latency = sums.latency.to_bytes();
        put(latency.len() as u64, &mut bytes);
        bytes.extend(latency);
    }
    bytes
}

fn decode<'a>(part: &mut &'a [u8]) -> Option<Line<'a>> {
    let mut text = || std::str::from_utf8(take_bytes(part)?).ok();
    let (key_id, source_path, route_id) = (text()?, text()?, text()?);
    let (target_url, error) = (text()?, text()?);
    Some(Line {
        kind: Kind {
            at_us: take(part)?.try_into().ok()?,
            key_id: Some(key_id),
            source_path,
            route_id,
            target_url,
            error,
            status_code: take(part)?.try_into().ok()?,
        },
        requests: take(part)?,
        last_us: take(part)?.try_into().ok()?,
        rate_limited: take(part)?,
        request_bytes: take(part)?,
        response_bytes: take(part)?,
        latency: take_bytes(part)?,
    })
}

fn take_bytes<'a>(part: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(part)?).ok()?;
    let (bytes, rest) = part.split_at_checked(length)?;
    *part = rest;
    Some(bytes)
}
