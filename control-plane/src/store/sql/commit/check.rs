//! What ops can only break together, and only the store can know.

use fastgate::model::Id;

use super::{
    super::{Result, objects::parse_route},
    Draft, given, match_key,
    objects::UPSTREAMS,
};
use crate::{
    domain::{Op, Route},
    store::StoreError,
};

impl Draft<'_> {
    /// Checks the state all ops led to.
    pub(super) async fn check_whole(&mut self) -> Result<()> {
        let change = self.change;
        for op in &change.ops {
            match op {
                Op::PutRoute(route, _) => {
                    let id = route.model.route_id.as_str();
                    self.check_name(id, &route.wire.name).await?;
                    self.check_upstream(id, &route.wire.upstream).await?;
                    self.check_collisions(id, route).await?;
                }
                Op::DeleteUpstream(id, _) => self.check_unused(id).await?,
                _ => {}
            }
        }
        Ok(())
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
        let found = sqlx::query(UPSTREAMS.select)
            .bind(self.change.environment.as_str())
            .bind(upstream)
            .fetch_optional(&mut **self.tx)
            .await?;
        if found.is_some() {
            return Ok(());
        }
        Err(StoreError::UnknownUpstream { id: id.to_owned(), upstream: upstream.to_owned() })
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
}
