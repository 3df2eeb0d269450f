//! The objects of a config document: parsed, each with its place for what is wrong with it.

use std::collections::HashMap;

use fastgate::{
    admin::v1,
    model::{Id, Violations},
};

use super::identity::Identity;
use crate::domain::{Route, Upstream};

/// Stands for an id not yet given, while the rest of a route is checked.
const UNASSIGNED: &str = "unassigned";

/// A document that was read. What could not be parsed is left out, and its faults are told.
pub(super) struct Document {
    pub(super) upstreams: Vec<DocumentUpstream>,
    pub(super) routes: Vec<DocumentRoute>,
}

/// An upstream of the document.
pub(super) struct DocumentUpstream {
    /// Its place in the document.
    pub(super) at: usize,
    pub(super) etag: String,
    pub(super) upstream: Upstream,
}

/// A route of the document.
pub(super) struct DocumentRoute {
    /// Its place in the document.
    pub(super) at: usize,
    pub(super) etag: String,
    pub(super) route: Route,
    pub(super) identity: Identity,
}

impl Document {
    pub(super) fn parse(environment: &Id, wire: v1::Config, faults: &mut Violations) -> Self {
        check_environments(environment, &wire, faults);
        let upstreams = parse_upstreams(wire.upstreams, faults);
        let routes = parse_routes(wire.routes, faults);
        Self { upstreams, routes }
    }
}

impl DocumentRoute {
    pub(super) fn id(&self) -> &str {
        self.route.model.route_id.as_str()
    }

    pub(super) fn set_id(&mut self, id: &Id) {
        self.route.wire.route_id = id.to_string();
        self.route.model.route_id = id.clone();
    }
}

/// Objects may repeat the document's environment, but not name another.
fn check_environments(environment: &Id, document: &v1::Config, faults: &mut Violations) {
    let upstreams = document.upstreams.iter().map(|upstream| &upstream.environment);
    let routes = document.routes.iter().map(|route| &route.environment);
    let upstreams = upstreams.enumerate().map(|(at, named)| ("upstreams", at, named));
    let routes = routes.enumerate().map(|(at, named)| ("routes", at, named));
    for (list, at, named) in upstreams.chain(routes) {
        if !named.is_empty() && named != environment.as_str() {
            let fault = format!("is '{named}' in a document for '{environment}': remove it");
            faults.add(format!("{list}[{at}].environment"), fault);
        }
    }
}

fn parse_upstreams(wire: Vec<v1::Upstream>, faults: &mut Violations) -> Vec<DocumentUpstream> {
    let mut seen = HashMap::new();
    let mut upstreams = Vec::with_capacity(wire.len());
    for (at, wire) in wire.into_iter().enumerate() {
        let etag = wire.etag.clone();
        match Upstream::parse(wire) {
            Ok(upstream) => {
                let id = upstream.model.upstream_id.clone();
                if let Some(first) = seen.insert(id.clone(), at) {
                    let fault = format!("is '{id}' here and in upstreams[{first}]: keep one");
                    faults.add(format!("upstreams[{at}].upstream_id"), fault);
                }
                upstreams.push(DocumentUpstream { at, etag, upstream });
            }
            Err(part) => faults.add_below(&format!("upstreams[{at}]"), part),
        }
    }
    upstreams
}

fn parse_routes(wire: Vec<v1::Route>, faults: &mut Violations) -> Vec<DocumentRoute> {
    let mut routes = Vec::with_capacity(wire.len());
    for (at, mut wire) in wire.into_iter().enumerate() {
        let etag = wire.etag.clone();
        let identity = if wire.route_id.is_empty() { Identity::Open } else { Identity::Given };
        if identity == Identity::Open {
            wire.route_id = UNASSIGNED.to_owned();
        }
        match Route::parse(wire) {
            Ok(route) => routes.push(DocumentRoute { at, etag, route, identity }),
            Err(part) => faults.add_below(&format!("routes[{at}]"), part),
        }
    }
    routes
}
