//! Routes, upstreams, plans and settings: all of a change is taken, or nothing.
//!
//! An entity of a kind only a newer control plane knows is passed over. It is held like any other, so
//! that the digest fits, and a node that does know it finds it there.

use std::{sync::Arc, time::Duration};

use fastgate::{
    admin,
    model::{Destination, Id, Plan, RateLimit, Route, Settings, Target, Upstream, Violations},
    node::v1::{self, Entity, EntityError, EntityKind, EntityRef},
};

use super::entity::{check_id, decode, entity_error, entity_errors};
use crate::{
    keys::Plans,
    persistent::Persistent,
    route::{CompiledRoute, RouteIndex},
    target::{TargetSet, Upstreams},
};

/// Routes, upstreams, plans and settings. Clones share what they do not change.
#[derive(Clone)]
pub(super) struct Config {
    routes: Persistent<Id, Arc<CompiledRoute>>,
    pub(super) index: RouteIndex,
    pub(super) upstreams: Upstreams,
    /// How many routes name an upstream, whether or not there is one of that name.
    named_by: Persistent<Id, usize>,
    pub(super) plans: Plans,
    pub(super) default_rate_limit: Option<RateLimit>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routes: Persistent::default(),
            index: RouteIndex::default(),
            upstreams: Upstreams::default(),
            named_by: Persistent::default(),
            plans: Plans::default(),
            default_rate_limit: RateLimit::parse(Settings::DEFAULT_RATE_LIMIT).ok(),
        }
    }
}

/// A config being changed, and what was found wrong on the way.
pub(super) struct Draft {
    config: Config,
    /// Put into the index at the end, when the routes they replace are out.
    new_routes: Vec<(Entity, Arc<CompiledRoute>)>,
    gone_upstreams: Vec<EntityRef>,
    /// Entities of kinds this node does not know.
    passed_over: usize,
    errors: Vec<EntityError>,
}

impl Draft {
    pub(super) fn of(config: Config) -> Self {
        Self {
            config,
            new_routes: Vec::new(),
            gone_upstreams: Vec::new(),
            passed_over: 0,
            errors: Vec::new(),
        }
    }

    pub(super) fn upsert(&mut self, entity: &Entity) {
        let Ok(kind) = EntityKind::try_from(entity.kind) else {
            self.passed_over += 1;
            return;
        };
        let taken = match kind {
            EntityKind::Route => self.upsert_route(entity),
            EntityKind::Upstream => self.upsert_upstream(entity),
            EntityKind::Plan => self.upsert_plan(entity),
            EntityKind::Settings => self.upsert_settings(entity),
            EntityKind::Key | EntityKind::Unspecified => {
                Err(Violations::one("kind", "is none of routes, upstreams, plans and settings"))
            }
        };
        if let Err(faults) = taken {
            self.errors.extend(entity_errors(entity, faults));
        }
    }

    fn upsert_route(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: admin::v1::Route = decode(entity, EntityKind::Route)?;
        let route = Route::parse(&wire)?;
        check_id("route_id", &route.route_id, entity)?;
        let own_targets = match &route.destination {
            Destination::Targets(targets) => {
                Some(Arc::new(target_set(targets, Upstream::CONNECT_TIMEOUT)?))
            }
            Destination::Upstream(_) => None,
        };
        self.remove_route(&entity.id);
        let route = Arc::new(CompiledRoute::new(route, own_targets));
        if let Destination::Upstream(id) = &route.route.destination {
            *self.config.named_by.entry(id.clone()).or_default() += 1;
        }
        self.config.routes.insert(route.route.route_id.clone(), route.clone());
        self.new_routes.push((entity.clone(), route));
        Ok(())
    }

    fn upsert_upstream(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: admin::v1::Upstream = decode(entity, EntityKind::Upstream)?;
        let upstream = Upstream::parse(&wire)?;
        check_id("upstream_id", &upstream.upstream_id, entity)?;
        let targets = target_set(&upstream.targets, upstream.connect_timeout)?;
        self.config.upstreams.insert(upstream.upstream_id, Arc::new(targets));
        Ok(())
    }

    fn upsert_plan(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: admin::v1::Plan = decode(entity, EntityKind::Plan)?;
        let plan = Plan::parse(&wire)?;
        check_id("plan_id", &plan.plan_id, entity)?;
        self.config.plans.insert(plan.plan_id.clone(), Arc::new(plan));
        Ok(())
    }

    fn upsert_settings(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: v1::Settings = decode(entity, EntityKind::Settings)?;
        self.config.default_rate_limit = Settings::parse(&wire)?.default_rate_limit;
        Ok(())
    }

    pub(super) fn remove(&mut self, gone: &EntityRef) {
        match gone.kind() {
            EntityKind::Route => self.remove_route(&gone.id),
            EntityKind::Upstream => {
                self.config.upstreams.remove(gone.id.as_str());
                self.gone_upstreams.push(gone.clone());
            }
            EntityKind::Plan => drop(self.config.plans.remove(gone.id.as_str())),
            EntityKind::Settings => {
                self.config.default_rate_limit = Config::default().default_rate_limit;
            }
            EntityKind::Key | EntityKind::Unspecified => {}
        }
    }

    fn remove_route(&mut self, id: &str) {
        let Some(old) = self.config.routes.remove(id) else { return };
        if let Destination::Upstream(upstream) = &old.route.destination {
            match self.config.named_by.get_mut(upstream) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.config.named_by.remove(upstream)),
            }
        }
        self.new_routes.retain(|(entity, _)| entity.id != id);
        self.config.index.remove(&old.route);
    }

    /// Checks what only the whole can show.
    pub(super) fn finish(mut self) -> Result<Config, Vec<EntityError>> {
        for (entity, compiled) in &self.new_routes {
            if let Err(other) = self.config.index.insert(compiled) {
                let text = format!("matches the same requests as the route '{other}'");
                self.errors.push(entity_error(entity, "path".into(), text));
            }
            if let Destination::Upstream(id) = &compiled.route.destination
                && !self.config.upstreams.contains_key(id)
            {
                let text = format!("names '{id}', which does not exist");
                self.errors.push(entity_error(entity, "upstream".into(), text));
            }
        }
        for gone in &self.gone_upstreams {
            let is_named = self.config.named_by.get(gone.id.as_str()).is_some_and(|n| *n > 0);
            if is_named && !self.config.upstreams.contains_key(gone.id.as_str()) {
                self.errors.push(EntityError {
                    kind: gone.kind,
                    id: gone.id.clone(),
                    field: "upstream_id".into(),
                    message: "is deleted while a route names it".into(),
                });
            }
        }
        if self.passed_over > 0 {
            let entities = self.passed_over;
            tracing::warn!(entities, "passed over config of kinds only newer nodes know");
        }
        if self.errors.is_empty() { Ok(self.config) } else { Err(self.errors) }
    }
}

fn target_set(targets: &[Target], connect_timeout: Duration) -> Result<TargetSet, Violations> {
    TargetSet::new(targets, connect_timeout).map_err(|at| {
        Violations::one(format!("targets[{at}].url"), "has a host no Host header can hold")
    })
}
