//! The store in SQL that both databases understand.
//!
//! This folder is compiled once below `postgres` and once below `sqlite`: `super::Db` says for
//! which, and `super::Backend` holds what differs. Nothing here asks which of the two it is.

mod append;
mod commit;
mod events;
mod gaps;
mod history;
mod joining;
mod lookups;
mod metrics;
mod nodes;
mod objects;
mod parts;
mod requests;
mod revisions;
mod rollouts;
mod rollups;
mod together;
mod tokens;
mod value;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use fastgate::{
    admin::v1::{AdminEvent, LogGap, Node},
    identity::{Fingerprint, NodeName, Serial},
    model::Id,
    node::v1::Entity,
    secret::SecretHash,
};
use sqlx::{Transaction, pool::PoolConnection};

use self::{
    lookups::WantedKey,
    objects::{PLANS, ROUTES, UPSTREAMS},
    together::Together,
};
use super::{Backend, Db, FIND, NOW_US, TAKES_WRITES, WANTED_KEYS, rows::Rows};
use crate::{
    domain::{
        Actor, ApiKey, CallId, Change, Environment, EventBatch, EventFilter, EventPage,
        EventPosition, Expect, Issued, JoinToken, Metrics, MetricsQuery, Namespace, Op, Outcome,
        Plan, Replay, Revision, Rollout, Route, Step, Stored, Token, Upstream, Usage,
    },
    store::{
        Appended, Cursor, Head, Held, KeyFilter, LoggedRevision, News, Page, Retention,
        RolloutMove, SaidNode, Store, StoreError,
    },
};

/// One connection, in a transaction.
pub(super) type Tx = Transaction<'static, Db>;

/// One connection: each statement sees a state of its own.
type Connection = <Db as sqlx::Database>::Connection;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Rows one statement reads or writes at most: SQLite takes 32,766 parameters in one, Postgres twice as
/// many, and no row has more than ten.
const ROWS: usize = 1000;

/// A store on one of the databases.
pub(crate) struct SqlStore {
    backend: Arc<Backend>,
    changes: Together<Change>,
    keys: Together<WantedKey>,
}

impl SqlStore {
    /// A store that holds the environment `default`, whatever else it holds.
    pub(super) async fn open(backend: Backend) -> Result<Self> {
        let (changes, keys) = (Together::default(), Together::default());
        let store = Self { backend: Arc::new(backend), changes, keys };
        commit::fill(&store.backend).await?;
        let id = Id::default_environment();
        if store.environment(id.as_str()).await?.is_some() {
            return Ok(store);
        }
        let default = Environment::new(id.clone());
        let change = Change {
            environment: id,
            actor: Actor { token_id: tokens::NOBODY.into() },
            action: "bootstrap",
            repeatable: None,
            ops: vec![Op::PutEnvironment(default, Expect::Absent)],
            rework: None,
            validate_only: false,
        };
        match store.commit(&change).await {
            // Another replica was faster.
            Ok(_) | Err(StoreError::Exists { .. }) => Ok(store),
            Err(fault) => Err(fault),
        }
    }

    async fn read(&self) -> Result<Tx> {
        Ok(self.backend.read().await?)
    }

    /// For a single statement, which needs no transaction.
    async fn look(&self) -> Result<PoolConnection<Db>> {
        Ok(self.backend.look().await?)
    }

    async fn write(&self) -> Result<Tx> {
        Ok(self.backend.write().await?)
    }

    /// Commits what changes what nodes are to have, and says so.
    async fn finish(&self, mut tx: Tx) -> Result<()> {
        self.backend.announce(&mut tx, News::Config).await?;
        tx.commit().await?;
        self.backend.committed(News::Config);
        Ok(())
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn commit(&self, change: &Change) -> Result<Outcome> {
        if !change.validate_only {
            return self.changes.ask(&self.backend, &change.environment, change.clone()).await;
        }
        let mut tx = self.write().await?;
        let outcome = commit::run(&mut tx, change).await?;
        tx.rollback().await?;
        Ok(outcome)
    }

    async fn replay(&self, call: &CallId) -> Result<Option<Replay>> {
        let now_us = value::to_us(SystemTime::now());
        requests::find(&mut self.read().await?, call, now_us).await
    }

    async fn key(&self, environment: &Id, key_id: &str) -> Result<Option<(Stored<ApiKey>, Usage)>> {
        // What is no id names no key.
        let Ok(key_id) = Id::parse(key_id) else { return Ok(None) };
        self.keys.ask(&self.backend, environment, WantedKey(key_id)).await
    }

    async fn keys_named(&self, environment: &Id, key_ids: &[Id]) -> Result<Vec<Stored<ApiKey>>> {
        objects::keys_named(&mut *self.look().await?, environment, key_ids).await
    }

    async fn keys(
        &self,
        environment: &Id,
        filter: &KeyFilter,
        page: &Page,
    ) -> Result<Vec<(Stored<ApiKey>, Usage)>> {
        objects::keys(&mut self.read().await?, environment, filter, page).await
    }

    async fn route(&self, environment: &Id, route_id: &str) -> Result<Option<Stored<Route>>> {
        ROUTES.one(&mut *self.look().await?, environment, route_id).await
    }

    async fn routes(&self, environment: &Id, page: &Page) -> Result<Vec<Stored<Route>>> {
        ROUTES.page(&mut self.read().await?, environment, page).await
    }

    async fn upstream(
        &self,
        environment: &Id,
        upstream_id: &str,
    ) -> Result<Option<Stored<Upstream>>> {
        UPSTREAMS.one(&mut *self.look().await?, environment, upstream_id).await
    }

    async fn upstreams(&self, environment: &Id, page: &Page) -> Result<Vec<Stored<Upstream>>> {
        UPSTREAMS.page(&mut self.read().await?, environment, page).await
    }

    async fn plan(&self, environment: &Id, plan_id: &str) -> Result<Option<Stored<Plan>>> {
        PLANS.one(&mut *self.look().await?, environment, plan_id).await
    }

    async fn plans(&self, environment: &Id, page: &Page) -> Result<Vec<Stored<Plan>>> {
        PLANS.page(&mut self.read().await?, environment, page).await
    }

    async fn environment(&self, environment: &str) -> Result<Option<Stored<Environment>>> {
        objects::environment(&mut *self.look().await?, environment).await
    }

    async fn environments(&self, page: &Page) -> Result<Vec<Stored<Environment>>> {
        objects::environments(&mut self.read().await?, page).await
    }

    async fn config(&self, environment: &Id) -> Result<Held> {
        objects::config(&mut self.read().await?, environment).await
    }

    async fn config_at(&self, environment: &Id, revision: u64) -> Result<Option<Held>> {
        let mut tx = self.read().await?;
        let held = objects::config(&mut tx, environment).await?;
        history::take_back(&mut tx, environment, held, revision).await
    }

    async fn revisions(
        &self,
        environment: &Id,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Revision>> {
        history::revisions(&mut self.read().await?, environment, before, limit).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        revisions::heads(&mut self.read().await?).await
    }

    async fn entities(
        &self,
        environment: &Id,
        ns: Namespace,
    ) -> Result<Option<(Head, Vec<Entity>)>> {
        let mut tx = self.read().await?;
        let Some(head) = revisions::head(&mut tx, environment, ns).await? else {
            return Ok(None);
        };
        Ok(Some((head, revisions::entities(&mut tx, environment, ns).await?)))
    }

    async fn log(
        &self,
        environment: &Id,
        ns: Namespace,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LoggedRevision>> {
        revisions::log(&mut self.read().await?, environment, ns, after, limit).await
    }

    async fn config_entities_at(
        &self,
        environment: &Id,
        revision: u64,
    ) -> Result<Option<Vec<Entity>>> {
        history::entities_at(&mut self.read().await?, environment, revision).await
    }

    async fn rollout(&self, environment: &Id) -> Result<Option<Rollout>> {
        rollouts::one(&mut self.read().await?, environment).await
    }

    async fn move_rollout(&self, environment: &Id, moves: RolloutMove<'_>) -> Result<bool> {
        let RolloutMove { from, to, reason, actor, action } = moves;
        let mut tx = self.write().await?;
        let now = value::to_us(SystemTime::now());
        if !rollouts::go(&mut tx, environment, (from, to), reason, now).await? {
            return Ok(false);
        }
        rollouts::log(&mut tx, environment, from.target, (actor, action), now).await?;
        self.finish(tx).await?;
        Ok(true)
    }

    async fn undo_rollout(&self, environment: &Id, target: u64, actor: &Actor) -> Result<bool> {
        let mut tx = self.write().await?;
        let undone = commit::undo(&mut tx, environment, target, actor).await?;
        if undone.is_some() {
            self.finish(tx).await?;
        }
        Ok(undone.is_some())
    }

    async fn changed(&self, news: News) {
        self.backend.changed(news).await;
    }

    async fn create_token(&self, token: &Token, actor: &Actor) -> Result<()> {
        let mut tx = self.write().await?;
        tokens::create(&mut tx, token, actor).await?;
        Ok(tx.commit().await?)
    }

    async fn create_first_owner(&self, token: &Token) -> Result<bool> {
        let mut tx = self.write().await?;
        let created = tokens::create_first_owner(&mut tx, token).await?;
        tx.commit().await?;
        Ok(created)
    }

    async fn revoke_token(&self, token_id: &str, actor: &Actor) -> Result<()> {
        let mut tx = self.write().await?;
        tokens::revoke(&mut tx, token_id, actor).await?;
        Ok(tx.commit().await?)
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        tokens::all(&mut self.read().await?).await
    }

    async fn admin_events(
        &self,
        environment: Option<&str>,
        page: &Page,
    ) -> Result<Vec<(Cursor, AdminEvent)>> {
        tokens::admin_events(&mut self.read().await?, environment, page).await
    }

    async fn append_events(&self, batch: &EventBatch) -> Result<Appended> {
        let mut tx = self.write().await?;
        let appended = append::append(&mut tx, batch, SystemTime::now()).await?;
        tx.commit().await?;
        Ok(appended)
    }

    async fn events(
        &self,
        filter: &EventFilter,
        after: Option<EventPosition>,
        limit: u32,
    ) -> Result<EventPage> {
        let found = events::list(&mut self.read().await?, filter, after, limit).await;
        found.map_err(StoreError::of_search)
    }

    async fn gaps(
        &self,
        environment: &Id,
        node_id: Option<&str>,
        page: &Page,
    ) -> Result<Vec<(Cursor, LogGap)>> {
        gaps::list(&mut self.read().await?, environment, node_id, page).await
    }

    async fn metrics(&self, query: &MetricsQuery) -> Result<Metrics> {
        metrics::read(&mut self.read().await?, query).await.map_err(StoreError::of_search)
    }

    async fn roll_up(&self, now: SystemTime) -> Result<()> {
        let running_us = Step::Minute.floor(value::to_us(now));
        let mut last = None;
        loop {
            let mut tx = self.write().await?;
            if !self.backend.keeps(&mut tx).await? {
                return Ok(());
            }
            // What comes behind it waits for the next time. With what is put back there it would never
            // end where environments with a minute that runs are as many as are taken at once.
            let last = match last {
                Some(last) => last,
                None => *last.insert(parts::last(&mut tx).await?),
            };
            let may_be_more = rollups::settle(&mut tx, last, running_us).await?;
            tx.commit().await?;
            if !may_be_more {
                return Ok(());
            }
        }
    }

    async fn keep(&self, retention: &Retention, now: SystemTime) -> Result<()> {
        self.backend.keep(retention, now).await
    }

    async fn put_nodes(
        &self,
        replica: &str,
        nodes: &[Node],
        kept: Duration,
        announced: bool,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        nodes::put(&mut tx, replica, nodes, kept).await?;
        if announced {
            self.backend.announce(&mut tx, News::Nodes).await?;
        }
        tx.commit().await?;
        if announced {
            self.backend.committed(News::Nodes);
        }
        Ok(())
    }

    async fn nodes_of_others(&self, replica: &str) -> Result<Vec<SaidNode>> {
        nodes::of_others(&mut self.read().await?, replica).await
    }

    async fn node_ca(&self, first: Fingerprint) -> Result<Fingerprint> {
        let mut tx = self.write().await?;
        let kept = joining::ca(&mut tx, first).await?;
        tx.commit().await?;
        Ok(kept)
    }

    async fn create_join_token(&self, token: &JoinToken, actor: &Actor) -> Result<()> {
        let mut tx = self.write().await?;
        joining::create_token(&mut tx, token, actor).await?;
        Ok(tx.commit().await?)
    }

    async fn join_tokens(&self) -> Result<Vec<JoinToken>> {
        joining::tokens(&mut self.read().await?).await
    }

    async fn join_token(&self, hash: &SecretHash) -> Result<Option<JoinToken>> {
        joining::token(&mut self.read().await?, hash).await
    }

    async fn delete_join_token(&self, token_id: &str, actor: &Actor) -> Result<()> {
        let mut tx = self.write().await?;
        joining::delete_token(&mut tx, token_id, actor).await?;
        Ok(tx.commit().await?)
    }

    async fn join(&self, hash: &SecretHash, issued: &Issued) -> Result<bool> {
        let mut tx = self.write().await?;
        let joined = joining::join(&mut tx, hash, issued).await?;
        tx.commit().await?;
        Ok(joined)
    }

    async fn renew(&self, shown: &Serial, issued: &Issued) -> Result<bool> {
        let mut tx = self.write().await?;
        let renewed = joining::renew(&mut tx, shown, issued).await?;
        tx.commit().await?;
        Ok(renewed)
    }

    async fn revoke_node(&self, node: &NodeName, actor: &Actor) -> Result<()> {
        let mut tx = self.write().await?;
        joining::revoke(&mut tx, node, actor).await?;
        self.backend.announce(&mut tx, News::Revocations).await?;
        tx.commit().await?;
        self.backend.committed(News::Revocations);
        Ok(())
    }

    async fn revoked_certificates(&self) -> Result<Vec<Serial>> {
        joining::revoked(&mut self.read().await?).await
    }

    async fn takes_writes(&self) -> Result<bool> {
        Ok(sqlx::query_scalar(TAKES_WRITES).fetch_one(&mut *self.read().await?).await?)
    }
}
