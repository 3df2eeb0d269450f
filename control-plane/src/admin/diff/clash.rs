//! What a document breaks together with what stays stored.

use std::collections::{HashMap, HashSet};

use fastgate::model::{self, Destination, HostMatch, Id, PathMatch, Violations};

use super::document::{Document, DocumentRoute};
use crate::{
    domain::{Route, Stored, Upstream},
    store::Held,
};

/// Finds what would stand against something else once the document is applied.
pub(super) fn check(document: &Document, held: &Held, faults: &mut Violations) {
    check_upstreams(document, &held.upstreams, faults);
    check_routes(&document.routes, &held.routes, faults);
}

/// Every upstream a route names must be in the document or in the store.
fn check_upstreams(document: &Document, held: &[Stored<Upstream>], faults: &mut Violations) {
    let held = held.iter().map(|stored| &stored.object);
    let known: HashSet<&Id> = document
        .upstreams
        .iter()
        .map(|placed| &placed.object)
        .chain(held)
        .map(|upstream| &upstream.model.upstream_id)
        .collect();
    for DocumentRoute { at, route, .. } in &document.routes {
        if let Destination::Upstream(named) = &route.model.destination
            && !known.contains(named)
        {
            let fault = format!("names '{named}', which does not exist: add it to 'upstreams'");
            faults.add(format!("routes[{at}].upstream"), fault);
        }
    }
}

/// No two routes may share an id or a name, or match the same requests with the same priority:
/// neither within the document nor with stored ones that stay as they are.
fn check_routes(routes: &[DocumentRoute], held: &[Stored<Route>], faults: &mut Violations) {
    let replaced: HashSet<&str> = routes.iter().map(DocumentRoute::id).collect();
    let staying = held
        .iter()
        .map(|stored| &stored.object)
        .filter(|route| !replaced.contains(route.model.route_id.as_str()));
    let mut others = Others::default();
    for route in staying {
        others.add(route, format!("the stored route '{}'", route.model.route_id));
    }
    for document in routes {
        let DocumentRoute { at, route, .. } = document;
        if let Some((field, fault)) = others.clash(route) {
            faults.add(format!("routes[{at}].{field}"), fault);
        }
        others.add(route, format!("routes[{at}]"));
    }
}

/// Routes seen so far, each with what to call it.
#[derive(Default)]
struct Others<'a> {
    by_id: HashMap<&'a str, String>,
    by_name: HashMap<&'a str, String>,
    by_match: HashMap<Alike<'a>, Vec<(&'a model::Route, String)>>,
}

/// What routes that could clash share: host, path and priority.
type Alike<'a> = (&'a HostMatch, &'a PathMatch, i32);

impl<'a> Others<'a> {
    fn add(&mut self, route: &'a Route, called: String) {
        let Route { wire, model } = route;
        self.by_id.entry(model.route_id.as_str()).or_insert_with(|| called.clone());
        if !wire.name.is_empty() {
            self.by_name.entry(&wire.name).or_insert_with(|| called.clone());
        }
        let alike = (&model.host, &model.path, model.priority);
        self.by_match.entry(alike).or_default().push((model, called));
    }

    /// The field of a route that clashes with another, and how to mend it.
    fn clash(&self, route: &Route) -> Option<(&'static str, String)> {
        let Route { wire, model } = route;
        if let Some(other) = self.by_id.get(model.route_id.as_str()) {
            return Some(("route_id", format!("is the same as that of {other}: keep one")));
        }
        if let Some(other) = self.by_name.get(wire.name.as_str()) {
            let fault = format!("is '{}', like that of {other}: choose another", wire.name);
            return Some(("name", fault));
        }
        let alike = self.by_match.get(&(&model.host, &model.path, model.priority))?;
        let (_, other) = alike.iter().find(|(other, _)| other.collides_with(model))?;
        let field = if wire.path.is_empty() { "path_prefix" } else { "path" };
        let mend = "change host, path, methods or priority";
        Some((field, format!("matches the same requests as {other}: {mend}")))
    }
}
