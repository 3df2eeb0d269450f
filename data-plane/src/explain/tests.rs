//! What is told of routes is what the search of a request finds.

use std::{collections::BTreeSet, sync::Arc};

use fastgate::{
    admin::v1,
    model::{HostMatch, PathMatch, Route},
};
use http::Method;
use proptest::{collection::vec, prelude::*, sample::select};

use super::candidates::{Wanted, tell};
use crate::route::{CompiledRoute, Found, RouteIndex};

/// Paths that often share segments, in one letter case and another.
fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["/a", "/b", "/A", "/"]), 1..4).prop_map(|segments| segments.concat())
}

fn route() -> impl Strategy<Value = v1::Route> {
    let hosts = select(vec!["", "a.com", "*.a.com", "b.a.com", "*.b.a.com"]);
    let methods = select(vec![vec![], vec!["GET"], vec!["POST"], vec!["GET", "POST"]]);
    (hosts, path(), any::<bool>(), methods, 0..2).prop_map(
        |(host, path, is_exact, methods, priority)| v1::Route {
            host: host.into(),
            path: if is_exact { path.clone() } else { String::new() },
            path_prefix: if is_exact { String::new() } else { path },
            methods: methods.into_iter().map(str::to_owned).collect(),
            priority,
            upstream: "u".into(),
            ..Default::default()
        },
    )
}

/// Those of them that no other one forbids.
fn index(routes: Vec<v1::Route>) -> (RouteIndex, Vec<Arc<CompiledRoute>>) {
    let (mut index, mut taken) = (RouteIndex::default(), Vec::new());
    for (number, wire) in routes.into_iter().enumerate() {
        let wire = v1::Route { route_id: format!("r{number}"), ..wire };
        let route = Arc::new(CompiledRoute::new(Route::parse(&wire).expect("valid"), None));
        if index.insert(&route).is_ok() {
            taken.push(route);
        }
    }
    (index, taken)
}

/// The rule as it is documented, without a tree.
fn best(routes: &[Arc<CompiledRoute>], wanted: Wanted<'_>, method: &Method) -> Option<String> {
    let matching = routes.iter().filter(|held| {
        held.route.host.matches(wanted.host)
            && held.route.path.matches(wanted.path)
            && held.is_for(method)
    });
    let rank = |route: &Route| {
        let host = match &route.host {
            HostMatch::Any => 0,
            HostMatch::Below(suffix) => suffix.len(),
            HostMatch::Exact(_) => usize::MAX,
        };
        let (is_exact, length) = match &route.path {
            PathMatch::Exact(_) => (true, 0),
            PathMatch::Prefix(prefix) => (false, prefix.len()),
        };
        (route.priority, host, is_exact, length, !route.methods.is_empty())
    };
    let best = matching.max_by_key(|held| rank(&held.route));
    best.map(|held| held.route.route_id.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2048,
        failure_persistence: None,
        ..Default::default()
    })]
    #[test]
    fn the_route_that_is_told_is_the_one_a_request_gets(
        routes in vec(route(), 0..12),
        host in select(vec!["a.com", "b.a.com", "c.b.a.com", "x"]),
        path in path(),
        method in select(vec![Method::GET, Method::POST, Method::PUT]),
    ) {
        let (index, routes) = index(routes);
        let wanted = Wanted { host, path: &path };
        let (found, met) = index.explain(host, &path, &method);
        let met_ids: BTreeSet<_> =
            met.iter().map(|(held, _)| held.route.route_id.to_string()).collect();
        let fitting = routes.iter().map(|held| &held.route);
        let fitting = fitting.filter(|route| route.host.matches(host) && route.path.matches(&path));
        prop_assert_eq!(&met_ids, &fitting.map(|route| route.route_id.to_string()).collect());
        let (told, others) = tell(wanted, &index, met);

        let taken: Vec<_> = told.iter().filter(|one| one.outcome == "taken").collect();
        let expected = match (&found, index.find(host, &path, &method)) {
            (Found::Route(one), Found::Route(other)) => {
                prop_assert!(Arc::ptr_eq(one, other));
                Some(one.route.route_id.to_string())
            }
            (Found::MethodNotAllowed(one), Found::MethodNotAllowed(other)) => {
                prop_assert_eq!(one, &other);
                prop_assert!(!met_ids.is_empty());
                None
            }
            (Found::Nothing, Found::Nothing) => {
                prop_assert!(met_ids.is_empty());
                None
            }
            _ => return Err(TestCaseError::fail("one search finds what another does not")),
        };
        prop_assert_eq!(taken.first().map(|one| one.route_id.clone()), expected.clone());
        prop_assert_eq!(taken.len(), usize::from(expected.is_some()));
        prop_assert_eq!(expected, best(&routes, wanted, &method));

        for one in &told {
            let is_met = met_ids.contains(&one.route_id);
            prop_assert_eq!(is_met, !matches!(&*one.reason, "host" | "path") || one.outcome == "lost");
            prop_assert_eq!(one.detail.is_empty(), one.outcome == "taken");
        }
        prop_assert_eq!(told.len() + others as usize, routes.len());
    }
}

#[test]
fn each_route_is_told_what_it_lacks() {
    let wire = |(id, host, path, methods, priority): (&str, &str, &str, &str, i32)| v1::Route {
        route_id: id.into(),
        host: host.into(),
        path: if path.ends_with('*') { String::new() } else { path.into() },
        path_prefix: path.strip_suffix('*').unwrap_or_default().into(),
        methods: methods.split_whitespace().map(str::to_owned).collect(),
        priority,
        upstream: "u".into(),
        ..Default::default()
    };
    let mut index = RouteIndex::default();
    for route in [
        ("winner", "", "/api/users*", "GET", 5),
        ("shorter", "", "/api*", "", 5),
        ("later", "", "/api/users/7", "", 0),
        ("writes", "", "/api/users/7", "PUT POST", 1),
        ("elsewhere", "b.com", "/api*", "", 0),
        ("case", "", "/API/Users/7", "", 0),
        ("sibling", "", "/api/orders*", "", 0),
        ("far", "", "/other*", "", 0),
    ] {
        let route = Route::parse(&wire(route)).expect("valid");
        index.insert(&Arc::new(CompiledRoute::new(route, None))).expect("no collision");
    }
    let (host, path, method) = ("a.com", "/api/users/7", &Method::GET);
    let (_, met) = index.explain(host, path, method);
    let (told, others) = tell(Wanted { host, path }, &index, met);
    let told = told
        .iter()
        .map(|one| format!("{} {} {}: {}\n", one.route_id, one.outcome, one.reason, one.detail));
    insta::assert_snapshot!(told.collect::<String>(), @r"
    winner taken : 
    shorter lost path: the other's path is longer
    later lost priority: has priority 0, the other 5
    writes no_match method: is for PUT, POST
    elsewhere no_match host: is for the host b.com
    case no_match path: differs in letter case
    sibling no_match path: is for /api/orders and what is below
    ");
    assert_eq!(others, 1);
}
