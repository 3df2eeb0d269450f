//! The objects of a config document: parsed, each with its place for what is wrong with it.

use std::collections::{BTreeMap, HashMap, HashSet};

use fastgate::{
    admin::v1,
    model::{Id, Violations},
};

use super::{Step, identity::Identity};
use crate::{
    domain::{Plan, Route, Selector, Stored, Upstream},
    store::Held,
};

/// Stands for an id not yet given, while the rest of a route is checked.
const UNASSIGNED: &str = "unassigned";

/// A document that was read. What could not be parsed is left out, and its faults are told.
pub(super) struct Document {
    pub(super) upstreams: Vec<Placed<Upstream>>,
    pub(super) routes: Vec<DocumentRoute>,
    pub(super) plans: Vec<Placed<Plan>>,
}

/// An upstream or a plan of the document.
pub(super) struct Placed<T> {
    /// Its place in its list.
    pub(super) at: usize,
    pub(super) etag: String,
    pub(super) object: T,
}

/// A kind of object of which documents give the id.
pub(super) trait Named: PartialEq + Sized {
    type Wire;
    /// In messages. Its list in the document is named so too, with an `s`.
    const KIND: &'static str;

    fn read(wire: Self::Wire) -> Result<Self, Violations>;
    fn etag(wire: &Self::Wire) -> &str;
    fn id(&self) -> &Id;
    fn labels(&self) -> &BTreeMap<String, String>;
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
        let upstreams = parse_named(wire.upstreams, faults);
        let routes = parse_routes(wire.routes, faults);
        let plans = parse_named(wire.plans, faults);
        Self { upstreams, routes, plans }
    }

    /// Takes out of what is held all that is meant and not in the document, to be deleted. Routes come
    /// first: they may name upstreams.
    pub(super) fn take_missing(&self, held: &mut Held, meant: &Selector) -> Vec<Step> {
        let routes: HashSet<_> =
            self.routes.iter().map(|route| &route.route.model.route_id).collect();
        let stays = |route: &Route| {
            routes.contains(&route.model.route_id) || !meant.fits(&route.wire.labels)
        };
        let gone = take_missing(&mut held.routes, stays);
        let mut steps: Vec<_> = gone.into_iter().map(Step::DeleteRoute).collect();
        let gone = take_missing(&mut held.upstreams, staying(&self.upstreams, meant));
        steps.extend(gone.into_iter().map(Step::DeleteUpstream));
        let gone = take_missing(&mut held.plans, staying(&self.plans, meant));
        steps.extend(gone.into_iter().map(Step::DeletePlan));
        steps
    }

    /// Passes over what is not meant.
    pub(super) fn keep_meant(&mut self, meant: &Selector) {
        self.upstreams.retain(|placed| meant.fits(placed.object.labels()));
        self.routes.retain(|route| meant.fits(&route.route.wire.labels));
        self.plans.retain(|placed| meant.fits(placed.object.labels()));
    }
}

/// Whether a stored object is in the document, in whatever state, or not meant.
fn staying<T: Named>(placed: &[Placed<T>], meant: &Selector) -> impl Fn(&T) -> bool {
    let ids: HashSet<_> = placed.iter().map(|placed| placed.object.id().clone()).collect();
    let meant = meant.clone();
    move |stored| ids.contains(stored.id()) || !meant.fits(stored.labels())
}

fn take_missing<T>(stored: &mut Vec<Stored<T>>, stays: impl Fn(&T) -> bool) -> Vec<Box<Stored<T>>> {
    let all = std::mem::take(stored).into_iter();
    let (stay, gone): (Vec<_>, Vec<_>) = all.partition(|one| stays(&one.object));
    *stored = stay;
    gone.into_iter().map(Box::new).collect()
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

impl Named for Upstream {
    type Wire = v1::Upstream;
    const KIND: &'static str = "upstream";

    fn read(wire: v1::Upstream) -> Result<Self, Violations> {
        Self::parse(wire)
    }

    fn etag(wire: &v1::Upstream) -> &str {
        &wire.etag
    }

    fn id(&self) -> &Id {
        &self.model.upstream_id
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.wire.labels
    }
}

impl Named for Plan {
    type Wire = v1::Plan;
    const KIND: &'static str = "plan";

    fn read(wire: v1::Plan) -> Result<Self, Violations> {
        Self::parse(wire)
    }

    fn etag(wire: &v1::Plan) -> &str {
        &wire.etag
    }

    fn id(&self) -> &Id {
        &self.model.plan_id
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.wire.labels
    }
}

/// Objects may repeat the document's environment, but not name another.
fn check_environments(environment: &Id, document: &v1::Config, faults: &mut Violations) {
    let upstreams = document.upstreams.iter().map(|upstream| &upstream.environment);
    let routes = document.routes.iter().map(|route| &route.environment);
    let plans = document.plans.iter().map(|plan| &plan.environment);
    let upstreams = upstreams.enumerate().map(|(at, named)| ("upstreams", at, named));
    let routes = routes.enumerate().map(|(at, named)| ("routes", at, named));
    let plans = plans.enumerate().map(|(at, named)| ("plans", at, named));
    for (list, at, named) in upstreams.chain(routes).chain(plans) {
        if !named.is_empty() && named != environment.as_str() {
            let fault = format!("is '{named}' in a document for '{environment}': remove it");
            faults.add(format!("{list}[{at}].environment"), fault);
        }
    }
}

fn parse_named<T: Named>(wire: Vec<T::Wire>, faults: &mut Violations) -> Vec<Placed<T>> {
    let kind = T::KIND;
    let mut seen = HashMap::new();
    let mut objects = Vec::with_capacity(wire.len());
    for (at, wire) in wire.into_iter().enumerate() {
        let etag = T::etag(&wire).to_owned();
        match T::read(wire) {
            Ok(object) => {
                let id = object.id().clone();
                if let Some(first) = seen.insert(id.clone(), at) {
                    let fault = format!("is '{id}' here and in {kind}s[{first}]: keep one");
                    faults.add(format!("{kind}s[{at}].{kind}_id"), fault);
                }
                objects.push(Placed { at, etag, object });
            }
            Err(part) => faults.add_below(&format!("{kind}s[{at}]"), part),
        }
    }
    objects
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
