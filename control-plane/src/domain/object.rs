//! Keys, routes, upstreams, plans and environments as they are kept, and the entities nodes get of them.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1,
    model::{self, Id, Violations},
    node::{
        self,
        v1::{Entity, EntityKind, KeyRecord, SecretRecord, Settings},
    },
    secret::SecretHash,
};

use super::RolloutPolicy;

/// What has revisions of its own within an environment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Namespace {
    /// API keys: never held back.
    Keys,
    /// Routes, upstreams, plans and settings.
    Config,
}

impl Namespace {
    /// The one a message of a node speaks of.
    pub(crate) fn of(wire: node::v1::Namespace) -> Option<Self> {
        match wire {
            node::v1::Namespace::Keys => Some(Self::Keys),
            node::v1::Namespace::Config => Some(Self::Config),
            node::v1::Namespace::Unspecified => None,
        }
    }
}

impl From<Namespace> for node::v1::Namespace {
    fn from(ns: Namespace) -> Self {
        match ns {
            Namespace::Keys => Self::Keys,
            Namespace::Config => Self::Config,
        }
    }
}

/// An object with what the store adds to it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) object: T,
    pub(crate) created_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    /// The revision that last changed it, in hex.
    pub(crate) etag: String,
}

impl<T> Stored<T> {
    /// The revision that last changed it; 0: that is not known.
    pub(crate) fn revision(&self) -> u64 {
        u64::from_str_radix(&self.etag, 16).unwrap_or(0)
    }
}

/// An API key. Its validity is that of the [`KeyRecord`] it makes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiKey {
    pub(crate) key_id: Id,
    pub(crate) source_path: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) is_active: bool,
    pub(crate) rate_limit: Option<i64>,
    pub(crate) rate_limit_fallback: String,
    /// Empty: it is on none.
    pub(crate) plan_id: String,
    pub(crate) description: String,
    /// When its limits were made full again last. To nodes it names the buckets that count the key, so
    /// nothing takes it back.
    pub(crate) limits_reset_at: Option<SystemTime>,
    /// One, or two during a rotation; oldest first.
    pub(crate) secrets: Vec<ApiSecret>,
}

/// One live secret of a key.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiSecret {
    pub(crate) version: u32,
    pub(crate) hash: SecretHash,
    pub(crate) created_at: SystemTime,
    pub(crate) expires_at: Option<SystemTime>,
}

/// How often a key was used; counted when its audit events are stored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    pub(crate) count: u64,
    pub(crate) last_used_at: Option<SystemTime>,
}

/// A route: as written, without output-only fields, and what it means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Route {
    pub(crate) wire: v1::Route,
    pub(crate) model: model::Route,
}

/// An upstream: as written, without output-only fields, and what it means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Upstream {
    pub(crate) wire: v1::Upstream,
    pub(crate) model: model::Upstream,
}

/// A plan: as written, without output-only fields, and what it means.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Plan {
    pub(crate) wire: v1::Plan,
    pub(crate) model: model::Plan,
}

/// An environment and its settings.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Environment {
    pub(crate) id: Id,
    pub(crate) description: String,
    /// Requests a minute; 0: no limit; `None`: the product's default.
    pub(crate) default_rate_limit: Option<i64>,
    /// How changes of its config reach its nodes; `None`: all at once.
    pub(crate) rollout: Option<RolloutPolicy>,
}

// === impl ApiKey ===

impl ApiKey {
    /// The same with limits that are full again from `now` on, in whole milliseconds; later than the last
    /// time they were so, whatever became of the clock: no two resets have the same buckets.
    pub(crate) fn with_limits_reset(&self, now: SystemTime) -> Self {
        let later = self.limits_reset_at.map(|before| before + Duration::from_millis(1));
        let limits_reset_at = later.map_or(now, |later| later.max(now));
        Self { limits_reset_at: Some(limits_reset_at), ..self.clone() }
    }

    /// What nodes get of it.
    pub(crate) fn entity(&self) -> Entity {
        let record = self.record();
        entity(EntityKind::Key, &record.key_id, &record)
    }

    /// The same, before encoding: what [`model::Key::parse`] checks.
    pub(crate) fn record(&self) -> KeyRecord {
        KeyRecord {
            key_id: self.key_id.to_string(),
            source_path: self.source_path.clone(),
            permissions: self.permissions.clone(),
            expires_at_ms: self.expires_at.map(unix_ms),
            is_active: self.is_active,
            rate_limit: self.rate_limit,
            rate_limit_fallback: self.rate_limit_fallback.clone(),
            plan_id: self.plan_id.clone(),
            limits_reset_at_ms: self.limits_reset_at.map(unix_ms),
            secrets: self
                .secrets
                .iter()
                .map(|secret| SecretRecord {
                    version: secret.version,
                    hash: secret.hash.as_bytes().to_vec(),
                    expires_at_ms: secret.expires_at.map(unix_ms),
                    created_at_ms: unix_ms(secret.created_at),
                })
                .collect(),
        }
    }
}

// === impl Route ===

impl Route {
    /// Checks a route as written; its environment and output-only fields are dropped.
    pub(crate) fn parse(mut wire: v1::Route) -> Result<Self, Violations> {
        wire.environment.clear();
        wire.etag.clear();
        wire.created_at = None;
        wire.updated_at = None;
        let model = model::Route::parse(&wire)?;
        Ok(Self { wire, model })
    }

    /// What nodes get of it.
    pub(crate) fn entity(&self) -> Entity {
        entity(EntityKind::Route, self.model.route_id.as_str(), &self.wire)
    }
}

// === impl Upstream ===

impl Upstream {
    /// Checks an upstream as written; its environment and output-only fields are dropped.
    pub(crate) fn parse(mut wire: v1::Upstream) -> Result<Self, Violations> {
        wire.environment.clear();
        wire.etag.clear();
        wire.created_at = None;
        wire.updated_at = None;
        let model = model::Upstream::parse(&wire)?;
        Ok(Self { wire, model })
    }

    /// What nodes get of it.
    pub(crate) fn entity(&self) -> Entity {
        entity(EntityKind::Upstream, self.model.upstream_id.as_str(), &self.wire)
    }
}

// === impl Plan ===

impl Plan {
    /// Checks a plan as written; its environment and output-only fields are dropped.
    pub(crate) fn parse(mut wire: v1::Plan) -> Result<Self, Violations> {
        wire.environment.clear();
        wire.etag.clear();
        wire.created_at = None;
        wire.updated_at = None;
        let model = model::Plan::parse(&wire)?;
        Ok(Self { wire, model })
    }

    /// What nodes get of it.
    pub(crate) fn entity(&self) -> Entity {
        entity(EntityKind::Plan, self.model.plan_id.as_str(), &self.wire)
    }
}

// === impl Environment ===

impl Environment {
    /// One of which nothing is said.
    pub(crate) fn new(id: Id) -> Self {
        Self { id, description: String::new(), default_rate_limit: None, rollout: None }
    }

    /// What nodes get of it.
    pub(crate) fn entity(&self) -> Entity {
        entity(EntityKind::Settings, self.id.as_str(), &self.settings())
    }

    /// The same, before encoding: what [`model::Settings::parse`] checks.
    pub(crate) fn settings(&self) -> Settings {
        let limit = self.default_rate_limit.unwrap_or(model::Settings::DEFAULT_RATE_LIMIT);
        Settings { default_rate_limit: limit }
    }
}

fn entity(kind: EntityKind, id: &str, value: &impl prost::Message) -> Entity {
    Entity { kind: kind.into(), id: id.into(), value: value.encode_to_vec().into() }
}

/// Milliseconds since 1970, the resolution nodes enforce expiry with.
fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::samples;

    #[test]
    fn each_reset_of_limits_is_later_than_the_one_before() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let mut key = samples::key("k1");
        // The clock stands still, goes on, and is set back.
        for (now, reset_at) in [(10, 10), (10, 11), (20, 20), (5, 21)] {
            key = key.with_limits_reset(at(now));
            assert_eq!(key.limits_reset_at, Some(at(reset_at)));
        }
    }
}
