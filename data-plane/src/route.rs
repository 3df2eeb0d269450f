//! Finds the route of a request.
//!
//! Routes stand in one tree of path segments per host, so that a match walks the request's path
//! once and a change copies only the nodes above it. Of the routes whose host, path and method
//! match, the highest priority wins; then the most specific host, then the most specific path,
//! then one that names the method.

use std::{borrow::Cow, iter, sync::Arc};

use fastgate::model::{Destination, HostMatch, Id, PathMatch, Rewrite, Route};
use http::Method;

use crate::{
    persistent::Persistent,
    target::{TargetSet, Upstreams},
};

/// A route with everything of it that a request needs, made once.
pub(crate) struct CompiledRoute {
    /// As it was configured.
    pub(crate) route: Route,
    /// Its own targets; `None` when it names an upstream.
    own_targets: Option<Arc<TargetSet>>,
}

impl CompiledRoute {
    /// Makes a route; `own_targets` stands in for an inline destination.
    pub(crate) fn new(route: Route, own_targets: Option<Arc<TargetSet>>) -> Self {
        Self { route, own_targets }
    }

    /// Where its requests go.
    pub(crate) fn targets<'a>(&'a self, upstreams: &'a Upstreams) -> Option<&'a Arc<TargetSet>> {
        match (&self.own_targets, &self.route.destination) {
            (Some(targets), _) => Some(targets),
            (None, Destination::Upstream(id)) => upstreams.get(id),
            (None, Destination::Targets(_)) => None,
        }
    }

    /// What becomes of a path that matched.
    pub(crate) fn rewrite<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        let Rewrite::Replace(put) = &self.route.rewrite else { return path.into() };
        let below = match &self.route.path {
            PathMatch::Exact(_) => "",
            PathMatch::Prefix(prefix) => path.strip_prefix(&**prefix).unwrap_or_default(),
        };
        match (&**put, below) {
            ("", "") => "/".into(),
            ("", below) => below.into(),
            (put, below) => format!("{put}{below}").into(),
        }
    }

    /// Whether it takes requests of a method.
    pub(crate) fn is_for(&self, method: &Method) -> bool {
        self.route.methods.is_empty() || self.route.methods.contains(method)
    }
}

/// What the routes say to a request.
pub(crate) enum Found<'a> {
    /// This one takes it.
    Route(&'a Arc<CompiledRoute>),
    /// There are routes for its host and path, but for these methods.
    MethodNotAllowed(Vec<Method>),
    /// There is none.
    Nothing,
}

/// All routes of a snapshot. Clones share what they do not change.
#[derive(Clone, Default)]
pub(crate) struct RouteIndex {
    any_host: Node,
    /// By whole host name.
    exact_hosts: Persistent<Box<str>, Node>,
    /// By what comes after the first labels, with its leading dot.
    hosts_below: Persistent<Box<str>, Node>,
}

/// What stands at one path, and the segments below it.
#[derive(Clone, Default)]
struct Node {
    children: Persistent<Box<str>, Arc<Node>>,
    /// Routes of exactly this path.
    exact: Vec<Arc<CompiledRoute>>,
    /// Routes of this path and all below it.
    prefix: Vec<Arc<CompiledRoute>>,
}

impl RouteIndex {
    /// Finds the route; `host` is in lower case and without a port, `path` without a query.
    pub(crate) fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_> {
        self.search(host, path, method, ()).0
    }

    /// The same, with all routes it was found among.
    pub(crate) fn explain(
        &self,
        host: &str,
        path: &str,
        method: &Method,
    ) -> (Found<'_>, Vec<Met<'_>>) {
        self.search(host, path, method, Vec::new())
    }

    /// All routes, in no order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<CompiledRoute>> {
        let hosts = self.exact_hosts.values().chain(self.hosts_below.values());
        let mut nodes: Vec<&Node> = iter::once(&self.any_host).chain(hosts).collect();
        let nodes = iter::from_fn(move || {
            let node = nodes.pop()?;
            nodes.extend(node.children.values().map(|child| &**child));
            Some(node)
        });
        nodes.flat_map(|node| node.exact.iter().chain(&node.prefix))
    }

    fn search<'a, W: Witness<'a>>(
        &'a self,
        host: &str,
        path: &str,
        method: &Method,
        witness: W,
    ) -> (Found<'a>, W) {
        let mut search = Search { method, best: None, other_methods: Vec::new(), witness };
        if let Some(node) = self.exact_hosts.get(host) {
            search.walk(node, path, usize::MAX);
        }
        if !self.hosts_below.is_empty() {
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some((below, node)) =
                    host.get(at..).and_then(|below| Some((below, self.hosts_below.get(below)?)))
                {
                    search.walk(node, path, below.len());
                }
            }
        }
        search.walk(&self.any_host, path, 0);
        search.found()
    }

    /// Takes a route in. Its id must not be in it.
    ///
    /// # Errors
    /// The id of a route that nothing tells apart from it.
    pub(crate) fn insert(&mut self, route: &Arc<CompiledRoute>) -> Result<(), Id> {
        let routes = self.node(&route.route.host).routes_at(&route.route.path);
        if let Some(other) = routes.iter().find(|other| other.route.collides_with(&route.route)) {
            return Err(other.route.route_id.clone());
        }
        routes.push(route.clone());
        Ok(())
    }

    /// Takes a route out.
    pub(crate) fn remove(&mut self, route: &Route) {
        self.node(&route.host).remove(&segments_of(&route.path), route);
        match &route.host {
            HostMatch::Any => {}
            HostMatch::Exact(name) => drop_if_empty(&mut self.exact_hosts, name),
            HostMatch::Below(suffix) => drop_if_empty(&mut self.hosts_below, suffix),
        }
    }

    fn node(&mut self, host: &HostMatch) -> &mut Node {
        match host {
            HostMatch::Any => &mut self.any_host,
            HostMatch::Exact(name) => self.exact_hosts.entry(name.clone()).or_default(),
            HostMatch::Below(suffix) => self.hosts_below.entry(suffix.clone()).or_default(),
        }
    }
}

impl Node {
    fn routes_at(&mut self, path: &PathMatch) -> &mut Vec<Arc<CompiledRoute>> {
        let mut node = self;
        for segment in segments_of(path) {
            node = Arc::make_mut(node.children.entry(segment.into()).or_default());
        }
        match path {
            PathMatch::Exact(_) => &mut node.exact,
            PathMatch::Prefix(_) => &mut node.prefix,
        }
    }

    /// Takes a route out, and the nodes nothing stands at any more.
    fn remove(&mut self, segments: &[&str], route: &Route) {
        let Some((segment, below)) = segments.split_first() else {
            self.exact.retain(|held| held.route.route_id != route.route_id);
            self.prefix.retain(|held| held.route.route_id != route.route_id);
            return;
        };
        let Some(child) = self.children.get_mut(*segment) else { return };
        Arc::make_mut(child).remove(below, route);
        if child.is_empty() {
            self.children.remove(*segment);
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.exact.is_empty() && self.prefix.is_empty()
    }
}

fn drop_if_empty(hosts: &mut Persistent<Box<str>, Node>, name: &str) {
    if hosts.get(name).is_some_and(Node::is_empty) {
        hosts.remove(name);
    }
}

/// `/a/b` is `a`, `b`; `/a/` is `a` and an empty one. The empty prefix has none.
fn segments_of(path: &PathMatch) -> Vec<&str> {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path.split('/').skip(1).collect(),
    }
}

/// How a route that matches compares to another: the greatest wins. Fields count in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    pub(crate) priority: i32,
    /// How specific its host is.
    pub(crate) host: usize,
    pub(crate) is_exact_path: bool,
    /// How many segments it matches.
    pub(crate) depth: usize,
    pub(crate) names_method: bool,
}

/// A route whose host and path match, and its rank; `None`: it is for other methods.
pub(crate) type Met<'a> = (&'a Arc<CompiledRoute>, Option<Rank>);

/// Who watches a search. Nobody does where a request waits for it, and that costs nothing.
trait Witness<'a> {
    fn meet(&mut self, met: Met<'a>);
}

impl Witness<'_> for () {
    fn meet(&mut self, _: Met<'_>) {}
}

impl<'a> Witness<'a> for Vec<Met<'a>> {
    fn meet(&mut self, met: Met<'a>) {
        self.push(met);
    }
}

struct Search<'a, 'm, W> {
    method: &'m Method,
    best: Option<(Rank, &'a Arc<CompiledRoute>)>,
    /// Of routes that match but for the method.
    other_methods: Vec<&'a [Method]>,
    witness: W,
}

impl<'a, W: Witness<'a>> Search<'a, '_, W> {
    fn walk(&mut self, root: &'a Node, path: &str, host_rank: usize) {
        self.take(&root.prefix, host_rank, false, 0);
        let mut node = root;
        for (depth, segment) in (1..).zip(path.split('/').skip(1)) {
            let Some(child) = node.children.get(segment) else { return };
            node = child;
            self.take(&node.prefix, host_rank, false, depth);
        }
        self.take(&node.exact, host_rank, true, usize::MAX);
    }

    fn take(&mut self, routes: &'a [Arc<CompiledRoute>], host: usize, exact: bool, depth: usize) {
        for held in routes {
            if !held.is_for(self.method) {
                self.witness.meet((held, None));
                self.other_methods.push(&held.route.methods);
                continue;
            }
            let rank = Rank {
                priority: held.route.priority,
                host,
                is_exact_path: exact,
                depth,
                names_method: !held.route.methods.is_empty(),
            };
            self.witness.meet((held, Some(rank)));
            if self.best.is_none_or(|(best, _)| rank > best) {
                self.best = Some((rank, held));
            }
        }
    }

    fn found(self) -> (Found<'a>, W) {
        if let Some((_, route)) = self.best {
            return (Found::Route(route), self.witness);
        }
        if self.other_methods.is_empty() {
            return (Found::Nothing, self.witness);
        }
        let mut allowed: Vec<Method> = self.other_methods.concat();
        allowed.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed.dedup();
        (Found::MethodNotAllowed(allowed), self.witness)
    }
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1;

    use super::*;

    /// `id | host | path (`/a` exact, `/a*` prefix) | methods | priority`
    fn compiled(text: &str) -> Arc<CompiledRoute> {
        let fields: Vec<_> = text.split('|').map(str::trim).collect();
        let [id, host, path, methods, priority] = fields[..] else { panic!("{text}") };
        let mut wire = v1::Route {
            route_id: id.into(),
            host: host.into(),
            methods: methods.split_whitespace().map(str::to_owned).collect(),
            priority: priority.parse().expect("a number"),
            upstream: "u".into(),
            ..Default::default()
        };
        match path.strip_suffix('*') {
            Some(prefix) => wire.path_prefix = prefix.into(),
            None => wire.path = path.into(),
        }
        Arc::new(CompiledRoute::new(Route::parse(&wire).expect(text), None))
    }

    fn index(routes: &[&str]) -> RouteIndex {
        let mut index = RouteIndex::default();
        for route in routes {
            index.insert(&compiled(route)).expect(route);
        }
        index
    }

    fn found(index: &RouteIndex, method: &str, host: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        match index.find(host, path, &method) {
            Found::Route(route) => route.route.route_id.to_string(),
            Found::MethodNotAllowed(allowed) => format!("405 {allowed:?}"),
            Found::Nothing => "404".into(),
        }
    }

    #[test]
    fn the_most_specific_route_takes_a_request() {
        let index = index(&[
            "root        |             | /*         |         | 0",
            "api         |             | /api*      |         | 0",
            "users       |             | /api/users*|         | 0",
            "exact       |             | /api/users |         | 0",
            "slash       |             | /api/users/|         | 0",
            "write       |             | /api/w*    | PUT     | 0",
            "any-method  |             | /api/any/m |         | 1",
            "loud        |             | /api/loud* |         | 9",
            "host        | a.com       | /api*      |         | 0",
            "below       | *.a.com     | /*         |         | 0",
            "deep        | *.x.a.com   | /*         |         | 0",
            "get-only    | only.com    | /g*        | GET HEAD| 0",
            "post-only   | only.com    | /g/p*      | POST    | 0",
        ]);
        for (method, host, path, route) in [
            ("GET", "b", "/", "root"),
            ("GET", "b", "/apis", "root"),
            ("GET", "b", "/api", "api"),
            ("GET", "b", "/api/", "api"),
            ("GET", "b", "/api/users", "exact"),
            ("GET", "b", "/api/users/", "slash"),
            ("GET", "b", "/api/users/1/2/3", "users"),
            ("GET", "b", "/api/usersx", "api"),
            ("GET", "b", "/api/Users", "api"),
            ("GET", "b", "/api//users", "api"),
            ("PUT", "b", "/api/w/1", "write"),
            ("GET", "b", "/api/w/1", "api"),
            ("GET", "a.com", "/api/users", "host"),
            ("GET", "a.com", "/other", "root"),
            ("GET", "a.com", "/api/loud/x", "loud"),
            ("GET", "b.a.com", "/api/users", "below"),
            ("GET", "b.x.a.com", "/", "deep"),
            ("GET", "x.a.com", "/", "below"),
            ("GET", "ba.com", "/", "root"),
            ("GET", ".a.com", "/", "root"),
            ("POST", "only.com", "/g/p/1", "post-only"),
            ("GET", "only.com", "/g/p/1", "get-only"),
            ("DELETE", "only.com", "/g/p/1", "root"),
        ] {
            assert_eq!(found(&index, method, host, path), route, "{method} {host}{path}");
        }
    }

    #[test]
    fn a_path_that_is_there_for_other_methods_is_405_with_all_of_them() {
        let index = index(&[
            "one  |     | /x*  | GET HEAD | 0",
            "two  |     | /x/y | PUT GET  | 0",
            "host | a.b | /x*  | DELETE   | 0",
        ]);
        assert_eq!(found(&index, "POST", "c", "/x"), "405 [GET, HEAD]");
        assert_eq!(found(&index, "POST", "c", "/x/y"), "405 [GET, HEAD, PUT]");
        assert_eq!(found(&index, "POST", "a.b", "/x/y"), "405 [DELETE, GET, HEAD, PUT]");
        assert_eq!(found(&index, "POST", "c", "/y"), "404");
    }

    #[test]
    fn routes_that_nothing_tells_apart_collide() {
        let mut index = index(&["one | | /x* | GET PUT | 0"]);
        let collides = |index: &mut RouteIndex, text| index.insert(&compiled(text)).is_err();
        assert!(collides(&mut index, "two | | /x* | PUT | 0"));
        assert!(collides(&mut index, "two | | /x* |  | 0"));
        assert!(!collides(&mut index, "two | | /x* | POST | 0"));
        assert!(!collides(&mut index, "three | | /x* | GET | 1"));
        assert!(!collides(&mut index, "four | a.b | /x* | GET | 0"));
        assert!(!collides(&mut index, "five | | /x | GET | 0"));
    }

    #[test]
    fn removing_undoes_inserting_and_leaves_clones_alone() {
        let empty = RouteIndex::default();
        let mut full = empty.clone();
        let routes: Vec<_> =
            ["a | | /x/y* | | 0", "b | h | /x | | 0", "c | *.h | /* | | 0"].map(compiled).into();
        routes.iter().for_each(|route| full.insert(route).expect("no collision"));
        assert_eq!(found(&empty, "GET", "h", "/x"), "404");
        let before = full.clone();
        routes.iter().for_each(|route| full.remove(&route.route));
        assert!(full.any_host.is_empty());
        assert!(full.exact_hosts.is_empty() && full.hosts_below.is_empty());
        assert_eq!(found(&before, "GET", "h", "/x"), "b");
        assert_eq!(found(&before, "GET", "a.h", "/x/y/z"), "c");
    }
}
