//! What ops can only break together, and only the store can know.

use std::collections::HashSet;

use fastgate::model::Id;

use super::{
    super::{Result, objects::parse_route, value::to_u64},
    Draft, given, match_key,
    objects::{PLANS, Table, UPSTREAMS, is_there},
};
use crate::{
    domain::{Op, Route},
    store::StoreError,
};

impl Draft<'_> {
    /// Checks the state all ops led to.
    pub(super) async fn check_whole(&mut self) -> Result<()> {
        let ops = self.ops.clone();
        for op in ops.iter() {
            match op {
                Op::PutRoute(route, _) => {
                    let id = route.model.route_id.as_str();
                    self.check_name(id, &route.wire.name).await?;
                    self.check_upstream(id, &route.wire.upstream).await?;
                    self.check_collisions(id, route).await?;
                }
                Op::DeleteUpstream(id, _) => self.check_unused(id).await?,
                Op::DeletePlan(id, _) => self.check_without_keys(id).await?,
                _ => {}
            }
        }
        self.check_plans(&ops).await
    }

    async fn check_name(&mut self, id: &str, name: &str) -> Result<()> {
        let Some(name) = given(name) else { return Ok(()) };
        let other: Option<(String,)> = sqlx::query_as(
            "SELECT route_id FROM routes WHERE environment = $1 AND name = $2 AND route_id <> $3",
        )
        .bind(self.change.environment.as_str())
        .bind(name)
        .bind(id)
        .fetch_optional(&mut **self.tx)
        .await?;
        match other {
            Some((other,)) => Err(StoreError::NameTaken { name: name.to_owned(), other }),
            None => Ok(()),
        }
    }

    async fn check_upstream(&mut self, id: &str, upstream: &str) -> Result<()> {
        let Some(upstream) = given(upstream) else { return Ok(()) };
        if self.is_there(&UPSTREAMS, upstream).await? {
            return Ok(());
        }
        Err(StoreError::UnknownUpstream { id: id.to_owned(), upstream: upstream.to_owned() })
    }

    /// Every plan a key is put on must be there. Many keys of one change are on few plans, each of
    /// which is looked for once.
    async fn check_plans(&mut self, ops: &[Op]) -> Result<()> {
        let mut seen = HashSet::new();
        for op in ops {
            let Op::PutKey(key, _) = op else { continue };
            let Some(plan) = given(&key.plan_id).filter(|plan| seen.insert(*plan)) else {
                continue;
            };
            if !self.is_there(&PLANS, plan).await? {
                return Err(StoreError::UnknownPlan { plan: plan.to_owned() });
            }
        }
        Ok(())
    }

    async fn is_there(&mut self, table: &Table, id: &str) -> Result<bool> {
        is_there(self.tx, &self.change.environment, table, id).await
    }

    async fn check_collisions(&mut self, id: &str, route: &Route) -> Result<()> {
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT route_id, entity FROM routes \
             WHERE environment = $1 AND match_key = $2 AND route_id <> $3",
        )
        .bind(self.change.environment.as_str())
        .bind(match_key(route))
        .bind(id)
        .fetch_all(&mut **self.tx)
        .await?;
        for (other, entity) in rows {
            if parse_route(&entity)?.model.collides_with(&route.model) {
                return Err(StoreError::RouteCollision { id: id.to_owned(), other });
            }
        }
        Ok(())
    }

    async fn check_unused(&mut self, upstream: &Id) -> Result<()> {
        let route: Option<(String,)> = sqlx::query_as(
            "SELECT route_id FROM routes WHERE environment = $1 AND upstream_id = $2 LIMIT 1",
        )
        .bind(self.change.environment.as_str())
        .bind(upstream.as_str())
        .fetch_optional(&mut **self.tx)
        .await?;
        match route {
            Some((route,)) => Err(StoreError::UpstreamInUse { id: upstream.to_string(), route }),
            None => Ok(()),
        }
    }

    async fn check_without_keys(&mut self, plan: &Id) -> Result<()> {
        let (keys,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM api_keys WHERE environment = $1 AND plan_id = $2")
                .bind(self.change.environment.as_str())
                .bind(plan.as_str())
                .fetch_one(&mut **self.tx)
                .await?;
        match keys {
            0 => Ok(()),
            keys => Err(StoreError::PlanInUse { id: plan.to_string(), keys: to_u64(keys) }),
        }
    }
}
