//! Answers the control plane's question where the limits of a key stand.

use std::sync::Arc;

use fastgate::{
    admin::v1::{self as admin, LimitStanding},
    model::{Cost, Counts, Key, Limit, NamedLimit, Route},
    node::v1::{EntityKind, KeyRecord, LimitQuery, LimitReport},
};
use prost::Message as _;

use super::{Namespace, replica::Replica};
use crate::{
    limits::{Inspection, Limiter, Scope, Subject},
    snapshot::Snapshot,
};

/// The most limits that are told.
const TOLD: usize = 200;

/// A question that was understood; what it takes to answer it.
pub(super) struct Question {
    query: LimitQuery,
    node_id: String,
    inspection: Inspection,
    standings: Vec<LimitStanding>,
}

impl Question {
    /// Finds what is asked about.
    ///
    /// # Errors
    /// The answer, if there is nothing to look at.
    pub(super) fn find(
        query: LimitQuery,
        node_id: &str,
        replica: &Replica,
        limiter: &Limiter,
    ) -> Result<Self, LimitReport> {
        let query_id = query.query_id;
        let inspection = limiter.inspect();
        let node_id = node_id.to_owned();
        let mut question = Self { query, node_id, inspection, standings: Vec::new() };
        match question.add_all(replica) {
            Some(()) => Ok(question),
            None => {
                let fault = "does not know the key".to_owned();
                Err(LimitReport { query_id, fault, limits: Vec::new() })
            }
        }
    }

    /// Answers it.
    pub(super) async fn answer(self) -> LimitReport {
        let Self { query, node_id, inspection, standings: mut limits } = self;
        let counted_by = if inspection.is_shared() { "redis".to_owned() } else { node_id };
        let found = match query.reset {
            true => inspection.reset_and_look().await,
            false => inspection.look().await,
        };
        let found = match found {
            Ok(found) => found,
            Err(unseen) => {
                let (query_id, fault) = (query.query_id, unseen.to_string());
                return LimitReport { query_id, fault, limits: Vec::new() };
            }
        };
        for (standing, found) in limits.iter_mut().zip(found) {
            standing.remaining = i64::try_from(found.remaining).unwrap_or(i64::MAX);
            standing.reset = i64::try_from(found.reset).unwrap_or(i64::MAX);
            standing.counted_by.clone_from(&counted_by);
        }
        LimitReport { query_id: query.query_id, fault: String::new(), limits }
    }

    /// `None`: there is no such key.
    fn add_all(&mut self, replica: &Replica) -> Option<()> {
        let keys = replica.held(Namespace::Keys)?;
        let record = keys.get(EntityKind::Key.into(), &self.query.key_id)?;
        let key = Key::parse(&KeyRecord::decode(record.value()).ok()?).ok()?;
        let snapshot: Arc<Snapshot> = replica.snapshot()?;
        let secret = key.secrets.first()?;
        let entry = snapshot.keys.get(&secret.hash)?;
        let each = Subject::Key(key.key_id.as_str());
        let (rate, further) = entry.limits(&snapshot.plans, snapshot.default_rate_limit);
        if let Some(limit) = rate {
            self.add(each, Scope::Key, &limit, (Counts::Each, &Cost::ONE));
        }
        for NamedLimit { name, limit, cost, .. } in further {
            self.add(each, Scope::Plan(name), limit, (Counts::Each, cost));
        }
        for route in replica.held(Namespace::Config).into_iter().flat_map(|held| held.records()) {
            if route.kind() == i32::from(EntityKind::Route) {
                self.add_route(
                    each,
                    &Route::parse(&admin::Route::decode(route.value()).ok()?).ok()?,
                );
            }
        }
        Some(())
    }

    fn add_route(&mut self, each: Subject<'_>, route: &Route) {
        if !route.auth_required {
            return;
        }
        let id = &route.route_id;
        if let Some(limit) = &route.limit {
            self.add(each, Scope::Route(id), limit, (Counts::Each, &Cost::ONE));
        }
        for NamedLimit { name, counts, limit, cost } in &route.limits {
            let subject = match counts {
                Counts::Each => each,
                Counts::All => Subject::Route(id),
            };
            self.add(subject, Scope::OfRoute(id, name), limit, (*counts, cost));
        }
    }

    fn add(
        &mut self,
        subject: Subject<'_>,
        scope: Scope<'_>,
        limit: &Limit,
        (counts, cost): (Counts, &Cost),
    ) {
        if self.standings.len() >= TOLD {
            return;
        }
        self.inspection.add(subject, scope, *limit, cost);
        let (kind, named) = scope.label();
        let name = named.map_or(kind, |name| name.as_str());
        self.standings.push(LimitStanding {
            name: format!("{}{}", kind, named.map_or("", |name| name.as_str())),
            route_id: scope.route_id().map_or_else(String::new, ToString::to_string),
            limit: Some(limit.to_wire(name, counts, cost)),
            ..LimitStanding::default()
        });
    }
}
