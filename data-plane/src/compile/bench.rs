//! Routes of a node for benchmarks, compiled from what a control plane sends.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::sync::Arc;

use fastgate::{
    admin,
    model::Id,
    node::v1::{Entity, EntityKind},
};
use http::Method;
use prost::Message;

use super::Compiler;
use crate::{route::Found, snapshot::Snapshot};

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
    Entity {
        kind: EntityKind::Route.into(),
        id: route.route_id.clone(),
        value: route.encode_to_vec().into(),
    }
}
