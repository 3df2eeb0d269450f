//! What tests write to a store, here and above it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1::{self, LogEvent},
    model::Id,
    secret::{Kind, Secret},
};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::{
    domain::{
        Actor, ApiKey, ApiSecret, Change, Committed, Environment, EventFilter, EventPosition,
        Expect, Op, Outcome, Plan,
    },
    store::{Store, StoreError},
};

/// An empty store.
pub(crate) async fn scratch() -> (Arc<dyn Store>, TempDir) {
    let (url, dir) = super::sqlite_url();
    (super::open(&url).await, dir)
}

/// The store of [`scratch`] as it is now, as a backup would bring it back.
pub(crate) async fn restored(of: &TempDir) -> (Arc<dyn Store>, TempDir) {
    let (url, dir) = super::sqlite_url();
    let from = format!("sqlite:{}", of.path().join("fastgate.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&from).await.expect("a database");
    let into = dir.path().join("fastgate.db");
    let backup = format!("VACUUM INTO '{}'", into.display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(backup)).execute(&mut connection).await.expect("writes");
    (super::open(&url).await, dir)
}

pub(crate) fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

pub(crate) fn change(ops: Vec<Op>) -> Change {
    Change {
        environment: id("default"),
        actor: Actor { token_id: "token-1".into() },
        action: "test",
        repeatable: None,
        ops,
        rework: None,
        validate_only: false,
    }
}

/// Writes to the environment `default`.
pub(crate) async fn commit(store: &Arc<dyn Store>, ops: Vec<Op>) -> Result<Committed, StoreError> {
    commit_change(store, &change(ops)).await
}

pub(crate) async fn commit_change(
    store: &Arc<dyn Store>,
    change: &Change,
) -> Result<Committed, StoreError> {
    match store.commit(change).await? {
        Outcome::Committed(committed) => Ok(committed),
        Outcome::Replayed(replay) => panic!("{replay:?}"),
    }
}

pub(crate) fn environment(name: &str) -> Environment {
    Environment::new(id(name))
}

pub(crate) fn key(name: &str) -> ApiKey {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let secret = Secret::generate(Kind::ApiKey).expect("random bytes");
    ApiKey {
        key_id: id(name),
        source_path: "mobile_app".into(),
        permissions: vec!["orders:read".into()],
        expires_at: Some(now + Duration::from_secs(60)),
        is_active: true,
        rate_limit: Some(60),
        rate_limit_fallback: "open".into(),
        plan_id: String::new(),
        description: "for people".into(),
        limits_reset_at: None,
        secrets: vec![ApiSecret {
            version: 1,
            hash: secret.hash(),
            created_at: now,
            expires_at: None,
        }],
    }
}

/// A key on a plan, without a limit of its own.
pub(crate) fn on_plan(name: &str, plan_id: &str) -> ApiKey {
    ApiKey { plan_id: plan_id.into(), rate_limit: None, ..key(name) }
}

/// Creates a plan.
pub(crate) fn put_plan(name: &str, rate_limit: i64) -> Op {
    let wire =
        v1::Plan { plan_id: name.into(), rate_limit: Some(rate_limit), ..v1::Plan::default() };
    Op::PutPlan(Box::new(Plan::parse(wire).expect("a plan")), Expect::Absent)
}

/// All there are, newest first.
pub(crate) async fn listed(
    store: &Arc<dyn Store>,
    filter: &EventFilter,
) -> Vec<(EventPosition, LogEvent)> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|(position, _)| *position);
        let page = store.events(filter, after, 1000).await.expect("reads");
        if page.events.is_empty() {
            assert_eq!(page.left_out, 0, "no page is empty but the last");
            return all;
        }
        all.extend(page.events);
    }
}
