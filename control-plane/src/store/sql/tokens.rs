//! Admin tokens, and the trail of what was done with them.

use std::time::SystemTime;

use fastgate::{admin::v1::AdminEvent, secret::SecretHash};
use uuid::Uuid;

use super::{
    Db, ROWS, Result, Tx,
    value::{broken, from_us, not_found, to_us},
};
use crate::{
    domain::{Actor, Role, Token},
    store::{Cursor, Page, StoreError},
};

/// Who writes what nobody with a token asked for: the first owner.
pub(super) const NOBODY: &str = "bootstrap";

pub(super) async fn create(tx: &mut Tx, token: &Token, actor: &Actor) -> Result<()> {
    insert(tx, token).await?;
    let action = "fastgate.admin.v1.AccessService/CreateToken";
    let now_us = to_us(SystemTime::now());
    log_admin_event(tx, actor, action, "", ("token", &token.token_id), now_us).await
}

pub(super) async fn create_first_owner(tx: &mut Tx, token: &Token) -> Result<bool> {
    lock_owners(tx).await?;
    if count_owners(tx).await? > 0 {
        return Ok(false);
    }
    insert(tx, token).await?;
    let actor = Actor { token_id: NOBODY.into() };
    let now_us = to_us(SystemTime::now());
    log_admin_event(tx, &actor, "bootstrap", "", ("token", &token.token_id), now_us).await?;
    Ok(true)
}

pub(super) async fn revoke(tx: &mut Tx, token_id: &str, actor: &Actor) -> Result<()> {
    lock_owners(tx).await?;
    let role: Option<(String,)> =
        sqlx::query_as("DELETE FROM admin_tokens WHERE token_id = $1 RETURNING role")
            .bind(token_id)
            .fetch_optional(&mut **tx)
            .await?;
    let (role,) = role.ok_or_else(|| not_found("token", token_id))?;
    if role == Role::Owner.name() && count_owners(tx).await? == 0 {
        return Err(StoreError::LastOwner);
    }
    let action = "fastgate.admin.v1.AccessService/RevokeToken";
    log_admin_event(tx, actor, action, "", ("token", token_id), to_us(SystemTime::now())).await
}

type TokenRow = (String, String, String, Vec<u8>, i64, i64);

pub(super) async fn all(tx: &mut Tx) -> Result<Vec<Token>> {
    let rows: Vec<TokenRow> = sqlx::query_as(
        "SELECT token_id, name, role, hash, created_us, expires_us FROM admin_tokens \
         ORDER BY token_id",
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(token_of).collect()
}

/// Notes that a token changed something. `object` is its kind and id.
pub(super) async fn log_admin_event(
    tx: &mut Tx,
    actor: &Actor,
    action: &str,
    environment: &str,
    object: (&str, &str),
    at_us: i64,
) -> Result<()> {
    log_admin_events(tx, &[Done { actor, action, environment, object }], at_us).await
}

/// What somebody has done, for the log of it.
pub(super) struct Done<'a> {
    pub(super) actor: &'a Actor,
    pub(super) action: &'a str,
    pub(super) environment: &'a str,
    /// Its kind and its id.
    pub(super) object: (&'a str, &'a str),
}

/// The same of several, an event for each.
pub(super) async fn log_admin_events(tx: &mut Tx, done: &[Done<'_>], at_us: i64) -> Result<()> {
    for some in done.chunks(ROWS) {
        let mut insert = sqlx::QueryBuilder::<Db>::new(
            "INSERT INTO admin_events (event_id, at_us, token_id, action, environment, kind, id) ",
        );
        insert.push_values(some, |mut row, Done { actor, action, environment, object }| {
            row.push_bind(Uuid::now_v7().simple().to_string())
                .push_bind(at_us)
                .push_bind(&actor.token_id)
                .push_bind(*action)
                .push_bind(*environment)
                .push_bind(object.0)
                .push_bind(object.1);
        });
        insert.build().execute(&mut **tx).await?;
    }
    Ok(())
}

type AdminEventRow = (String, i64, String, String, String, String, String);

pub(super) async fn admin_events(
    tx: &mut Tx,
    environment: Option<&str>,
    page: &Page,
) -> Result<Vec<(Cursor, AdminEvent)>> {
    let mut query = sqlx::QueryBuilder::<Db>::new(
        "SELECT event_id, at_us, token_id, action, environment, kind, id FROM admin_events \
         WHERE 1 = 1",
    );
    if let Some(environment) = environment {
        query.push(" AND environment = ").push_bind(environment);
    }
    if let Some(after) = &page.after {
        query.push(" AND (at_us, event_id) < (").push_bind(after.at_us);
        query.push(", ").push_bind(&after.id).push(")");
    }
    query.push(" ORDER BY at_us DESC, event_id DESC LIMIT ").push_bind(i64::from(page.limit));
    let rows: Vec<AdminEventRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(admin_event_of).collect())
}

fn admin_event_of(row: AdminEventRow) -> (Cursor, AdminEvent) {
    let (event_id, at_us, token_id, action, environment, kind, id) = row;
    let timestamp = Some(from_us(at_us).into());
    let event = AdminEvent { timestamp, token_id, action, environment, kind, id };
    (Cursor { at_us, id: event_id }, event)
}

/// Lets one transaction at a time count owners: two that each revoke the other's token must not
/// both find one left. The head of an environment is always there to be locked.
async fn lock_owners(tx: &mut Tx) -> Result<()> {
    sqlx::query("UPDATE config_heads SET revision = revision WHERE environment = 'default'")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Owner tokens that still open something: an expired one must not keep everybody out.
async fn count_owners(tx: &mut Tx) -> Result<i64> {
    let (count,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM admin_tokens WHERE role = $1 AND expires_us > $2")
            .bind(Role::Owner.name())
            .bind(to_us(SystemTime::now()))
            .fetch_one(&mut **tx)
            .await?;
    Ok(count)
}

async fn insert(tx: &mut Tx, token: &Token) -> Result<()> {
    sqlx::query(
        "INSERT INTO admin_tokens (token_id, name, role, hash, created_us, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&token.token_id)
    .bind(&token.name)
    .bind(token.role.name())
    .bind(&token.hash.as_bytes()[..])
    .bind(to_us(token.created_at))
    .bind(to_us(token.expires_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn token_of((token_id, name, role, hash, created_us, expires_us): TokenRow) -> Result<Token> {
    Ok(Token {
        role: Role::parse(&role).ok_or_else(|| broken(format!("'{role}' as a role")))?,
        hash: SecretHash::from_bytes(&hash).ok_or_else(|| broken("a token hash's length"))?,
        token_id,
        name,
        created_at: from_us(created_us),
        expires_at: from_us(expires_us),
    })
}
