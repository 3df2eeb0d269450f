//! Config of a node for benchmarks, compiled from what a control plane sends.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::sync::Arc;

use fastgate::{
    admin,
    model::Id,
    node::v1::{Entity, EntityKind, KeyRecord, SecretRecord},
    secret::{Kind, Secret},
};
use http::Method;
use prost::Message;

use super::Compiler;
use crate::{record::Record, route::Found, snapshot::Snapshot};

/// Keys the one of a request is among.
const KEYS: usize = 10_000;

/// A table of routes, each with a prefix of two segments of its own.
pub struct Routes(Arc<Snapshot>);

impl Routes {
    /// So many of them.
    #[must_use]
    pub fn of(count: usize) -> Self {
        let mut compiler = Compiler::new(Id::default_environment());
        compiler.load_config((0..count).map(route).collect()).expect("valid routes");
        Self(compiler.snapshot(1, 1))
    }

    /// A path that one of them takes.
    #[must_use]
    pub fn path(number: usize) -> String {
        format!("{}/items/17", prefix(number))
    }

    /// Whether a GET of a path finds one, as a request finds out.
    #[must_use]
    pub fn take(&self, path: &str) -> bool {
        matches!(self.0.routes.find("gateway.example", path, &Method::GET), Found::Route(_))
    }
}

fn prefix(number: usize) -> String {
    format!("/api/service-{number}")
}

fn route(number: usize) -> Entity {
    let route = admin::v1::Route {
        route_id: format!("r{number}"),
        path_prefix: prefix(number),
        targets: vec![admin::v1::Target { url: "http://service:80".into(), ..Default::default() }],
        ..Default::default()
    };
    entity(&route)
}

fn entity(route: &admin::v1::Route) -> Entity {
    Entity {
        kind: EntityKind::Route.into(),
        id: route.route_id.clone(),
        value: route.encode_to_vec().into(),
    }
}

/// A route with limits, and many keys, of one of which the secret is known.
pub(crate) fn guarded() -> (Compiler, Secret) {
    let mut compiler = Compiler::new(Id::default_environment());
    let orders = admin::v1::Route {
        route_id: "orders".into(),
        path_prefix: "/api".into(),
        strip_prefix: true,
        rate_limit: Some(1_000_000_000),
        required_permissions: vec!["orders:read".into()],
        targets: vec![admin::v1::Target { url: "http://orders:8000".into(), ..Default::default() }],
        ..Default::default()
    };
    compiler.load_config(vec![entity(&orders)]).expect("a valid route");
    let secrets = (0..KEYS).map(|_| Secret::generate(Kind::ApiKey).expect("random bytes"));
    let secrets: Vec<_> = secrets.collect();
    let keys = secrets.iter().enumerate().map(|(number, secret)| {
        let key = KeyRecord {
            key_id: format!("key-{number}"),
            source_path: "mobile_app".into(),
            permissions: vec!["orders:*".into()],
            is_active: true,
            rate_limit: Some(1_000_000_000),
            secrets: vec![SecretRecord {
                version: 1,
                hash: secret.hash().as_bytes().to_vec(),
                ..Default::default()
            }],
            ..Default::default()
        };
        Record::new(EntityKind::Key.into(), &key.key_id, &key.encode_to_vec())
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(compiler.load_keys(keys.len(), &keys), []);
    (compiler, secrets.into_iter().next_back().expect("there are some"))
}
