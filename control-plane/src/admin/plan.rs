//! What applying a config document would change, or everything that stands in the way.

use std::collections::{HashMap, HashSet};

use fastgate::{
    admin::v1,
    model::{self, Destination, HostMatch, Id, PathMatch, Violations},
};

use super::new_id;
use crate::{
    domain::{Expect, Op, Route, Stored, Upstream},
    error::Error,
    store::StoreError,
};

/// Stands for an id not yet given, while the rest of a route is checked.
const UNASSIGNED: &str = "unassigned";

/// The routes and upstreams of an environment as of one revision.
pub(super) struct Held {
    pub(super) revision: u64,
    pub(super) upstreams: Vec<Stored<Upstream>>,
    pub(super) routes: Vec<Stored<Route>>,
}

/// An object a document creates, or changes.
pub(super) enum Step {
    Upstream {
        before: Option<Box<Stored<Upstream>>>,
        after: Box<Upstream>,
    },
    /// `made_up`: the route's id is new, and the next plan would make another.
    Route {
        before: Option<Box<Stored<Route>>>,
        after: Box<Route>,
        made_up: bool,
    },
}

/// Compares a document with what is held. Upstreams come before the routes that may name them.
pub(super) fn plan(environment: &Id, document: v1::Config, held: Held) -> Result<Vec<Step>, Error> {
    let mut faults = Violations::default();
    check_environments(environment, &document, &mut faults);
    let upstreams = parse_upstreams(document.upstreams, &mut faults);
    let mut routes = parse_routes(document.routes, &mut faults);
    identify(&mut routes, &held.routes);
    check_upstreams(&routes, &upstreams, &held.upstreams, &mut faults);
    check_routes(&routes, &held.routes, &mut faults);
    in_order(faults).or(())?;
    steps(upstreams, routes, held)
}

/// Faults in the order of the document, whichever check found them.
fn in_order(faults: Violations) -> Violations {
    let place = |field: &str| {
        let (list, rest) = field.split_once('[').unwrap_or((field, ""));
        let index = rest.split_once(']').and_then(|(index, _)| index.parse::<usize>().ok());
        // Upstreams stand before the routes that use them.
        (list == "routes", index)
    };
    let mut sorted: Vec<_> = faults.into_iter().collect();
    sorted.sort_by_key(|fault| place(&fault.field));
    let mut faults = Violations::default();
    sorted.into_iter().for_each(|fault| faults.add(fault.field, fault.description));
    faults
}

/// An upstream of the document.
struct DocumentUpstream {
    etag: String,
    upstream: Upstream,
}

/// A route of the document.
struct DocumentRoute {
    /// Its place in the document.
    at: usize,
    etag: String,
    route: Route,
    identity: Identity,
}

/// Which stored route a route of the document is.
#[derive(PartialEq, Eq)]
enum Identity {
    /// Not known yet.
    Open,
    /// The document says.
    Given,
    /// The stored one with the same name, or that matches the same requests.
    Found,
    /// None: it gets an id made up for it.
    New,
}

impl Step {
    pub(super) fn op(&self) -> Op {
        fn expect<T>(before: &Option<Box<Stored<T>>>) -> Expect {
            match before {
                Some(stored) => Expect::Etag(stored.etag.clone()),
                None => Expect::Absent,
            }
        }
        match self {
            Self::Upstream { before, after } => Op::PutUpstream(after.clone(), expect(before)),
            Self::Route { before, after, .. } => Op::PutRoute(after.clone(), expect(before)),
        }
    }
}

impl DocumentRoute {
    fn id(&self) -> &str {
        self.route.model.route_id.as_str()
    }

    fn set_id(&mut self, id: &Id) {
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
                upstreams.push(DocumentUpstream { etag, upstream });
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

/// Finds the stored route each route of the document is: by id, by name, by what it matches with
/// the same priority, by what it matches. A stored route is found once.
fn identify(routes: &mut [DocumentRoute], held: &[Stored<Route>]) {
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

/// Every upstream a route names must be in the document or in the store.
fn check_upstreams(
    routes: &[DocumentRoute],
    upstreams: &[DocumentUpstream],
    held: &[Stored<Upstream>],
    faults: &mut Violations,
) {
    let held = held.iter().map(|stored| &stored.object);
    let known: HashSet<&Id> = upstreams
        .iter()
        .map(|document| &document.upstream)
        .chain(held)
        .map(|upstream| &upstream.model.upstream_id)
        .collect();
    for DocumentRoute { at, route, .. } in routes {
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

fn steps(
    upstreams: Vec<DocumentUpstream>,
    routes: Vec<DocumentRoute>,
    held: Held,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let stored = held.upstreams.into_iter();
    let mut stored: HashMap<_, _> =
        stored.map(|stored| (stored.object.model.upstream_id.clone(), stored)).collect();
    for DocumentUpstream { etag, upstream: after } in upstreams {
        let before = stored.remove(&after.model.upstream_id);
        check_etag("upstream", after.model.upstream_id.as_str(), &etag, before.as_ref())?;
        if before.as_ref().is_none_or(|before| before.object != after) {
            steps.push(Step::Upstream { before: before.map(Box::new), after: Box::new(after) });
        }
    }
    let stored = held.routes.into_iter();
    let mut stored: HashMap<_, _> =
        stored.map(|stored| (stored.object.model.route_id.clone(), stored)).collect();
    for DocumentRoute { etag, route: after, identity, .. } in routes {
        let before = stored.remove(&after.model.route_id);
        check_etag("route", after.model.route_id.as_str(), &etag, before.as_ref())?;
        if before.as_ref().is_none_or(|before| before.object != after) {
            let (before, after) = (before.map(Box::new), Box::new(after));
            steps.push(Step::Route { before, after, made_up: identity == Identity::New });
        }
    }
    Ok(steps)
}

/// An etag in a document asks for the object in just that state.
fn check_etag<T>(
    kind: &'static str,
    id: &str,
    sent: &str,
    stored: Option<&Stored<T>>,
) -> Result<(), Error> {
    match stored {
        Some(stored) if !sent.is_empty() && sent != stored.etag => {
            Err(StoreError::Stale { kind, id: id.to_owned() }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fastgate::admin::v1::Target;

    use super::*;

    fn route(change: impl FnOnce(&mut v1::Route)) -> v1::Route {
        let targets = vec![Target { url: "http://localhost:1".into(), ..Target::default() }];
        let mut route = v1::Route { path: "/a".into(), targets, ..v1::Route::default() };
        change(&mut route);
        route
    }

    fn held(routes: &[v1::Route]) -> Held {
        let stored = |wire: &v1::Route| Stored {
            object: Route::parse(wire.clone()).expect("a valid route"),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            etag: "1".into(),
        };
        Held { revision: 1, upstreams: Vec::new(), routes: routes.iter().map(stored).collect() }
    }

    fn plan_routes(document: &[v1::Route], stored: &[v1::Route]) -> Result<Vec<Step>, Error> {
        let document = v1::Config { routes: document.to_vec(), ..v1::Config::default() };
        plan(&Id::parse("default").expect("an id"), document, held(stored))
    }

    /// Created and updated routes by id; a made-up id reads `new`.
    fn ids(steps: &[Step]) -> Vec<(&'static str, String)> {
        let one = |step: &Step| match step {
            Step::Route { before, after, made_up } => {
                let id = after.model.route_id.to_string();
                let what = if before.is_some() { "update" } else { "create" };
                (what, if *made_up { "new".into() } else { id })
            }
            Step::Upstream { after, .. } => ("upstream", after.model.upstream_id.to_string()),
        };
        steps.iter().map(one).collect()
    }

    fn faulty_fields(document: &[v1::Route], stored: &[v1::Route]) -> Vec<String> {
        match plan_routes(document, stored) {
            Err(Error::Invalid(faults)) => faults.iter().map(|f| f.field.clone()).collect(),
            _ => panic!("no faults found"),
        }
    }

    #[test]
    fn a_route_is_known_by_id_then_name_then_what_it_matches() {
        let stored = [
            route(|r| r.route_id = "by-id".into()),
            route(|r| {
                r.route_id = "by-name".into();
                r.name = "orders".into();
                r.path = "/b".into();
            }),
            route(|r| {
                r.route_id = "by-match".into();
                r.path = "/c".into();
                r.methods = vec!["GET".into(), "PUT".into()];
            }),
        ];
        let document = [
            route(|r| {
                r.route_id = "by-id".into();
                r.path = "/x".into();
            }),
            route(|r| {
                r.name = "orders".into();
                r.path = "/y".into();
            }),
            route(|r| {
                r.path = "/c".into();
                r.methods = vec!["PUT".into(), "GET".into()];
                r.timeout = Some(5.0);
            }),
            route(|r| r.path = "/new".into()),
        ];
        let steps = plan_routes(&document, &stored).expect("a plan");
        let expected =
            [("update", "by-id"), ("update", "by-name"), ("update", "by-match"), ("create", "new")];
        assert_eq!(ids(&steps), expected.map(|(what, id)| (what, id.to_owned())));
    }

    #[test]
    fn the_same_document_again_changes_nothing() {
        let stored = [
            route(|r| r.route_id = "one".into()),
            route(|r| {
                r.route_id = "two".into();
                r.priority = 5;
            }),
        ];
        // Without ids, and in another order: priority tells them apart.
        let document = [route(|r| r.priority = 5), route(|_| {})];
        assert!(plan_routes(&document, &stored).expect("a plan").is_empty());
    }

    #[test]
    fn a_stored_route_is_found_once() {
        let stored = [route(|r| r.route_id = "one".into())];
        let claimed = route(|r| {
            r.route_id = "one".into();
            r.path = "/moved".into();
        });
        let steps = plan_routes(&[route(|_| {}), claimed], &stored).expect("a plan");
        assert_eq!(ids(&steps), [("create", "new".into()), ("update", "one".into())]);
    }

    #[test]
    fn clashes_name_both_sides() {
        let named = |name: &'static str, path: &'static str| {
            route(move |r| {
                r.name = name.into();
                r.path = path.into();
            })
        };
        let with_id = |id: &'static str, path: &'static str| {
            route(move |r| {
                r.route_id = id.into();
                r.path = path.into();
            })
        };
        let prefix = route(|r| {
            r.path = String::new();
            r.path_prefix = "/p".into();
        });
        let stored_name = route(|r| {
            r.route_id = "s".into();
            r.name = "n".into();
        });
        for (document, stored, field) in [
            (vec![named("n", "/a"), named("n", "/b")], vec![], "routes[1].name"),
            (vec![with_id("i", "/a"), with_id("i", "/b")], vec![], "routes[1].route_id"),
            (vec![route(|_| {}), route(|_| {})], vec![], "routes[1].path"),
            (vec![prefix.clone(), prefix], vec![], "routes[1].path_prefix"),
            // With stored routes the document leaves alone.
            (vec![with_id("i", "/a")], vec![with_id("s", "/a")], "routes[0].path"),
            (
                vec![route(|r| {
                    r.route_id = "i".into();
                    r.name = "n".into();
                    r.path = "/z".into();
                })],
                vec![stored_name],
                "routes[0].name",
            ),
        ] {
            assert_eq!(faulty_fields(&document, &stored), [field]);
        }
    }

    #[test]
    fn faults_of_all_routes_come_at_once_with_their_places() {
        let document = [
            route(|r| r.timeout = Some(-1.0)),
            route(|r| r.path = "/b".into()),
            route(|r| {
                r.path = "/c".into();
                r.targets[0].url = "nope".into();
            }),
            route(|r| {
                r.path = "/d".into();
                r.targets.clear();
                r.upstream = "gone".into();
            }),
            route(|r| {
                r.path = "/e".into();
                r.environment = "other".into();
            }),
        ];
        let fields = faulty_fields(&document, &[]);
        let expected = [
            "routes[0].timeout",
            "routes[2].targets[0].url",
            "routes[3].upstream",
            "routes[4].environment",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_stale_etag_is_refused() {
        let stored = [route(|r| r.route_id = "one".into())];
        let with_etag = |etag: &str| {
            route(|r| {
                r.etag = etag.into();
                r.timeout = Some(9.0);
            })
        };
        assert!(plan_routes(&[with_etag("1")], &stored).is_ok());
        let stale = plan_routes(&[with_etag("0")], &stored);
        assert!(matches!(stale, Err(Error::Store(StoreError::Stale { .. }))));
    }
}
