//! Which stored route each route of a document is.

use std::collections::{HashMap, HashSet};

use fastgate::model::{self, HostMatch, Id, PathMatch};

use super::{super::new_id, document::DocumentRoute};
use crate::domain::{Route, Stored};

/// What is known of which stored route it is.
#[derive(PartialEq, Eq)]
pub(super) enum Identity {
    /// Not known yet.
    Open,
    /// The document says.
    Given,
    /// The stored one with the same name, or that matches the same requests.
    Found,
    /// None: it gets an id made up for it.
    New,
}

/// Finds the stored route each route of the document is: by id, by name, by what it matches with
/// the same priority, by what it matches. A stored route is found once.
pub(super) fn identify(routes: &mut [DocumentRoute], held: &[Stored<Route>]) {
    let given = routes.iter().filter(|route| route.identity == Identity::Given);
    let mut taken: HashSet<String> = given.map(|route| route.id().to_owned()).collect();
    let rounds: [fn(&Route) -> Option<Sign>; 3] = [
        |route| Some(&route.wire.name).filter(|name| !name.is_empty()).cloned().map(Sign::Name),
        |route| Some(Sign::Requests(requests(&route.model), Some(route.model.priority))),
        |route| Some(Sign::Requests(requests(&route.model), None)),
    ];
    for sign in rounds {
        let mut by_sign: HashMap<Sign, Vec<&Id>> = HashMap::new();
        for stored in held.iter().rev() {
            if let Some(sign) = sign(&stored.object) {
                by_sign.entry(sign).or_default().push(&stored.object.model.route_id);
            }
        }
        for route in routes.iter_mut().filter(|route| route.identity == Identity::Open) {
            let found = sign(&route.route).and_then(|sign| by_sign.get_mut(&sign));
            let mut free = found.into_iter().flat_map(|ids| std::iter::from_fn(|| ids.pop()));
            if let Some(id) = free.find(|id| !taken.contains(id.as_str())) {
                taken.insert(id.to_string());
                route.set_id(id);
                route.identity = Identity::Found;
            }
        }
    }
    for route in routes.iter_mut().filter(|route| route.identity == Identity::Open) {
        // What new_id makes is always an id.
        if let Ok(id) = Id::parse(&new_id("rt")) {
            route.set_id(&id);
        }
        route.identity = Identity::New;
    }
}

/// What tells that a route of a document is a stored one.
#[derive(PartialEq, Eq, Hash)]
enum Sign {
    Name(String),
    /// What it matches, and its priority.
    Requests((HostMatch, PathMatch, Vec<String>), Option<i32>),
}

fn requests(route: &model::Route) -> (HostMatch, PathMatch, Vec<String>) {
    let mut methods: Vec<_> = route.methods.iter().map(ToString::to_string).collect();
    methods.sort_unstable();
    (route.host.clone(), route.path.clone(), methods)
}
