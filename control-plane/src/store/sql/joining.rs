//! How nodes join: their CA, their tokens, their certificates.

use std::time::{Duration, SystemTime};

use fastgate::{
    identity::{Fingerprint, NodeName, Serial},
    secret::SecretHash,
};

use super::{
    Result, Tx,
    tokens::log_admin_event,
    value::{broken, from_us, id, not_found, to_us},
};
use crate::domain::{Actor, Issued, JoinToken};

/// How long a token is listed that has expired.
const SHOWN: Duration = Duration::from_secs(86_400);

/// How long a certificate is remembered that has ended.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

pub(super) async fn ca(tx: &mut Tx, first: Fingerprint) -> Result<Fingerprint> {
    sqlx::query(
        "INSERT INTO node_ca (only_row, fingerprint) VALUES (1, $1) ON CONFLICT DO NOTHING",
    )
    .bind(&first.as_bytes()[..])
    .execute(&mut **tx)
    .await?;
    let (kept,): (Vec<u8>,) =
        sqlx::query_as("SELECT fingerprint FROM node_ca").fetch_one(&mut **tx).await?;
    Fingerprint::from_bytes(&kept).ok_or_else(|| broken("a fingerprint's length"))
}

pub(super) async fn create_token(tx: &mut Tx, token: &JoinToken, actor: &Actor) -> Result<()> {
    let now = SystemTime::now();
    sqlx::query("DELETE FROM join_tokens WHERE expires_us < $1")
        .bind(before(now, SHOWN))
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO join_tokens (token_id, hash, environment, node_id, created_us, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&token.token_id)
    .bind(&token.hash.as_bytes()[..])
    .bind(token.environment.as_str())
    .bind(token.node_id.as_ref().map(|node_id| node_id.as_str()))
    .bind(to_us(token.created_at))
    .bind(to_us(token.expires_at))
    .execute(&mut **tx)
    .await?;
    let action = "fastgate.admin.v1.NodeService/CreateJoinToken";
    let object = ("join token", &*token.token_id);
    log_admin_event(tx, actor, action, token.environment.as_str(), object, to_us(now)).await
}

type TokenRow = (String, Vec<u8>, String, Option<String>, i64, i64);

const TOKEN: &str =
    "SELECT token_id, hash, environment, node_id, created_us, expires_us FROM join_tokens";

pub(super) async fn tokens(tx: &mut Tx) -> Result<Vec<JoinToken>> {
    let mut query = sqlx::QueryBuilder::<super::Db>::new(TOKEN);
    query.push(" WHERE used_us IS NULL AND expires_us >= ");
    query.push_bind(before(SystemTime::now(), SHOWN));
    query.push(" ORDER BY token_id");
    let rows: Vec<TokenRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(token_of).collect()
}

pub(super) async fn token(tx: &mut Tx, hash: &SecretHash) -> Result<Option<JoinToken>> {
    let mut query = sqlx::QueryBuilder::<super::Db>::new(TOKEN);
    query.push(" WHERE hash = ").push_bind(hash.as_bytes().to_vec());
    let row: Option<TokenRow> = query.build_query_as().fetch_optional(&mut **tx).await?;
    row.map(token_of).transpose()
}

pub(super) async fn delete_token(tx: &mut Tx, token_id: &str, actor: &Actor) -> Result<()> {
    let deleted: Option<(String,)> =
        sqlx::query_as("DELETE FROM join_tokens WHERE token_id = $1 RETURNING environment")
            .bind(token_id)
            .fetch_optional(&mut **tx)
            .await?;
    let (environment,) = deleted.ok_or_else(|| not_found("join token", token_id))?;
    let action = "fastgate.admin.v1.NodeService/DeleteJoinToken";
    let now_us = to_us(SystemTime::now());
    log_admin_event(tx, actor, action, &environment, ("join token", token_id), now_us).await
}

/// The update takes the token's row: of two that come at once, one finds it used. Who has used it may do
/// so again for a while, with the same key: the answer may have been lost.
pub(super) async fn join(tx: &mut Tx, hash: &SecretHash, issued: &Issued) -> Result<bool> {
    let node = &issued.node;
    let used: Option<(String,)> = sqlx::query_as(
        "UPDATE join_tokens SET used_us = COALESCE(used_us, $4), used_node = $3, used_key = $5 \
         WHERE hash = $1 AND environment = $2 AND (node_id IS NULL OR node_id = $3) \
         AND expires_us > $4 AND (used_us IS NULL OR \
         (used_node = $3 AND used_key = $5 AND used_us > $6)) RETURNING token_id",
    )
    .bind(&hash.as_bytes()[..])
    .bind(node.environment.as_str())
    .bind(node.node_id.as_str())
    .bind(to_us(issued.issued_at))
    .bind(&issued.key.as_bytes()[..])
    .bind(before(issued.issued_at, JoinToken::REPEATABLE))
    .fetch_optional(&mut **tx)
    .await?;
    let Some((token_id,)) = used else { return Ok(false) };
    insert(tx, issued).await?;
    let object = ("node", node.node_id.as_str());
    let at_us = to_us(issued.issued_at);
    let (actor, action) = (Actor { token_id }, "fastgate.node.v1.NodeIdentity/Join");
    log_admin_event(tx, &actor, action, node.environment.as_str(), object, at_us).await?;
    Ok(true)
}

/// The update takes the row of the certificate that was shown, which a revocation waits for.
pub(super) async fn renew(tx: &mut Tx, shown: &Serial, issued: &Issued) -> Result<bool> {
    let held = sqlx::query(
        "UPDATE node_certificates SET issued_us = issued_us \
         WHERE serial = $1 AND environment = $2 AND node_id = $3 AND revoked_us IS NULL",
    )
    .bind(&shown.as_bytes()[..])
    .bind(issued.node.environment.as_str())
    .bind(issued.node.node_id.as_str())
    .execute(&mut **tx)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(false);
    }
    insert(tx, issued).await?;
    Ok(true)
}

pub(super) async fn revoke(tx: &mut Tx, node: &NodeName, actor: &Actor) -> Result<()> {
    let now_us = to_us(SystemTime::now());
    let (environment, node_id) = (node.environment.as_str(), node.node_id.as_str());
    let (known,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM node_certificates WHERE environment = $1 AND node_id = $2",
    )
    .bind(environment)
    .bind(node_id)
    .fetch_one(&mut **tx)
    .await?;
    if known == 0 {
        return Err(not_found("node", node_id));
    }
    // What it joined with may not bring it back. First: it waits for who asks for the same certificate again at
    // this moment, which is then there to be revoked.
    sqlx::query("DELETE FROM join_tokens WHERE environment = $1 AND used_node = $2")
        .bind(environment)
        .bind(node_id)
        .execute(&mut **tx)
        .await?;
    // Until nothing is left: a renewal this waited for has added one that was not there to be seen.
    loop {
        let revoked = sqlx::query(
            "UPDATE node_certificates SET revoked_us = $1 \
             WHERE environment = $2 AND node_id = $3 AND revoked_us IS NULL",
        )
        .bind(now_us)
        .bind(environment)
        .bind(node_id)
        .execute(&mut **tx)
        .await?;
        if revoked.rows_affected() == 0 {
            break;
        }
    }
    let action = "fastgate.admin.v1.NodeService/RevokeNode";
    log_admin_event(tx, actor, action, environment, ("node", node_id), now_us).await
}

pub(super) async fn revoked(tx: &mut Tx) -> Result<Vec<Serial>> {
    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
        "SELECT serial FROM node_certificates WHERE revoked_us IS NOT NULL AND expires_us > $1",
    )
    .bind(to_us(SystemTime::now()))
    .fetch_all(&mut **tx)
    .await?;
    let read = |(serial,): (Vec<u8>,)| Serial::from_bytes(&serial);
    rows.into_iter().map(|row| read(row).ok_or_else(|| broken("a serial's length"))).collect()
}

async fn insert(tx: &mut Tx, issued: &Issued) -> Result<()> {
    sqlx::query(
        "DELETE FROM node_certificates WHERE environment = $1 AND node_id = $2 AND expires_us < $3",
    )
    .bind(issued.node.environment.as_str())
    .bind(issued.node.node_id.as_str())
    .bind(before(issued.issued_at, REMEMBERED))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO node_certificates (serial, environment, node_id, issued_us, expires_us) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&issued.serial.as_bytes()[..])
    .bind(issued.node.environment.as_str())
    .bind(issued.node.node_id.as_str())
    .bind(to_us(issued.issued_at))
    .bind(to_us(issued.expires_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn before(now: SystemTime, age: Duration) -> i64 {
    to_us(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn token_of(row: TokenRow) -> Result<JoinToken> {
    let (token_id, hash, environment, node_id, created_us, expires_us) = row;
    Ok(JoinToken {
        token_id,
        hash: SecretHash::from_bytes(&hash).ok_or_else(|| broken("a token hash's length"))?,
        environment: id(&environment)?,
        node_id: node_id.as_deref().map(id).transpose()?,
        created_at: from_us(created_us),
        expires_at: from_us(expires_us),
    })
}
