//! The routes next to a request: which of them takes it, and what the others lack.

use std::cmp::Reverse;

use fastgate::{
    admin::v1::RouteCandidate,
    model::{HostMatch, PathMatch},
};
use http::Method;

use crate::route::{CompiledRoute, Met, Rank, RouteIndex};

/// Routes that match which are told.
const MATCHING: usize = 50;

/// The same of those that nearly match.
const NEAR: usize = 10;

/// What routes are matched with.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

/// Those that `met` the request, the best first, then others that miss one thing; and how many more
/// there are.
pub(super) fn tell(
    wanted: Wanted<'_>,
    routes: &RouteIndex,
    mut met: Vec<Met<'_>>,
) -> (Vec<RouteCandidate>, u32) {
    let others: Vec<_> =
        routes.routes().filter(|route| !route.is_met(wanted)).map(|route| &**route).collect();
    let all = met.len() + others.len();
    // One for other methods has no rank, and comes last.
    met.sort_by_key(|(route, rank)| (Reverse(*rank), route.route.route_id.to_string()));
    let winner = met.first().and_then(|(_, rank)| *rank);
    let mut told: Vec<_> = met
        .into_iter()
        .take(MATCHING)
        .map(|(route, rank)| candidate(route, compared(route, rank, winner)))
        .collect();
    let mut near: Vec<_> = others
        .into_iter()
        .filter_map(|route| Some((missing(route, wanted)?, route)))
        .map(|((nearness, finding), route)| (nearness, route, finding))
        .collect();
    near.sort_by_key(|(nearness, route, _)| (Reverse(*nearness), route.route.route_id.to_string()));
    told.extend(near.into_iter().take(NEAR).map(|(_, route, finding)| candidate(route, finding)));
    let untold = all.saturating_sub(told.len());
    (told, u32::try_from(untold).unwrap_or(u32::MAX))
}

impl CompiledRoute {
    /// Whether host and path match, as the search of a request finds out in its own way.
    fn is_met(&self, Wanted { host, path }: Wanted<'_>) -> bool {
        self.route.host.matches(host) && self.route.path.matches(path)
    }
}

/// What was found of a route.
struct Finding {
    outcome: &'static str,
    reason: &'static str,
    detail: String,
}

impl Finding {
    fn no_match(reason: &'static str, detail: String) -> Self {
        Self { outcome: "no_match", reason, detail }
    }
}

fn candidate(route: &CompiledRoute, finding: Finding) -> RouteCandidate {
    let route = &route.route;
    let (path, path_prefix) = match &route.path {
        PathMatch::Exact(path) => (path.to_string(), String::new()),
        PathMatch::Prefix(_) => (String::new(), written(&route.path).to_owned()),
    };
    RouteCandidate {
        route_id: route.route_id.to_string(),
        host: host(&route.host),
        path,
        path_prefix,
        methods: route.methods.iter().map(ToString::to_string).collect(),
        priority: route.priority,
        outcome: finding.outcome.to_owned(),
        reason: finding.reason.to_owned(),
        detail: finding.detail,
    }
}

/// What decides between a route that matches and the one that wins.
fn compared(route: &CompiledRoute, rank: Option<Rank>, winner: Option<Rank>) -> Finding {
    let Some((rank, winner)) = rank.zip(winner) else {
        let methods: Vec<_> = route.route.methods.iter().map(Method::as_str).collect();
        return Finding::no_match("method", format!("is for {}", methods.join(", ")));
    };
    if rank == winner {
        return Finding { outcome: "taken", reason: "", detail: String::new() };
    }
    let (reason, detail) = if rank.priority != winner.priority {
        ("priority", format!("has priority {}, the other {}", rank.priority, winner.priority))
    } else if rank.host != winner.host {
        ("host", "the other's host is more specific".to_owned())
    } else if rank.is_exact_path != winner.is_exact_path {
        ("path", "the other is for this path alone".to_owned())
    } else if rank.depth != winner.depth {
        ("path", "the other's path is longer".to_owned())
    } else {
        ("method", "the other names the method".to_owned())
    };
    Finding { outcome: "lost", reason, detail }
}

/// What keeps a route from matching, and how near it is; `None`: it has little to do with the request.
fn missing(compiled: &CompiledRoute, wanted: Wanted<'_>) -> Option<(usize, Finding)> {
    let route = &compiled.route;
    if route.path.matches(wanted.path) {
        let detail = format!("is for the host {}", host(&route.host));
        return Some((usize::MAX, Finding::no_match("host", detail)));
    }
    let nearness = shared_segments(written(&route.path), wanted.path);
    if !route.host.matches(wanted.host) || nearness == 0 {
        return None;
    }
    let detail = match &route.path {
        _ if written(&route.path).eq_ignore_ascii_case(wanted.path) => {
            "differs in letter case".to_owned()
        }
        PathMatch::Exact(path) => format!("is for {path} alone"),
        PathMatch::Prefix(prefix) => format!("is for {prefix} and what is below"),
    };
    Some((nearness, Finding::no_match("path", detail)))
}

/// How many segments two paths begin with alike, in whatever case.
fn shared_segments(one: &str, other: &str) -> usize {
    let pairs = one.split('/').skip(1).zip(other.split('/').skip(1));
    pairs.take_while(|(one, other)| !one.is_empty() && one.eq_ignore_ascii_case(other)).count()
}

fn written(path: &PathMatch) -> &str {
    match path {
        PathMatch::Prefix(prefix) if prefix.is_empty() => "/",
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
    }
}

fn host(host: &HostMatch) -> String {
    match host {
        HostMatch::Any => String::new(),
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Below(suffix) => format!("*{suffix}"),
    }
}
