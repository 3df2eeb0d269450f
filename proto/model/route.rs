//! Routes: which requests match, and what is done with them.

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{
    Fallback, Id, Limit, NamedLimit, RateLimit, Recording, RequiredPermission, Target, Violations,
    bounds, check, labels,
};
use crate::{admin::v1, path};

/// One route.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Names it in logs, metrics and admin interfaces.
    pub route_id: Id,
    /// Which hosts match.
    pub host: HostMatch,
    /// Which paths match.
    pub path: PathMatch,
    /// Which methods match; empty: all.
    pub methods: Vec<Method>,
    /// Where requests go.
    pub destination: Destination,
    /// How long to wait for the response head, over all attempts, and between reads of its body;
    /// `None`: as [`Route::default_timeout`] says of its targets.
    pub timeout: Option<Duration>,
    /// Further attempts for a request that is safe to repeat.
    pub retry_count: u32,
    /// Whether a valid key is asked for.
    pub auth_required: bool,
    /// The key must hold all of them.
    pub required_permissions: Vec<RequiredPermission>,
    /// For each key on this route (each address where no key is asked for).
    pub limit: Option<Limit>,
    /// Further ones.
    pub limits: Vec<NamedLimit>,
    /// What becomes of the path.
    pub rewrite: Rewrite,
    /// Of several routes that match, the highest wins, then the most specific.
    pub priority: i32,
    /// Lets `%2F` pass.
    pub allow_encoded_slash: bool,
    /// What is recorded beside what always is; `None`: nothing, of every request. Requests hold on
    /// to it until they are recorded.
    pub recording: Option<Arc<Recording>>,
}

/// Which hosts a route matches, in lower case.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostMatch {
    /// Every host.
    Any,
    /// This host alone.
    Exact(Box<str>),
    /// Every name below this one; holds `.example.com` for `*.example.com`.
    Below(Box<str>),
}

/// Which paths a route matches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathMatch {
    /// This path alone.
    Exact(Box<str>),
    /// This path and all below it, by whole segments. Without a trailing slash, so empty for all paths.
    Prefix(Box<str>),
}

/// Where the requests of a route go.
#[derive(Clone, PartialEq, Debug)]
pub enum Destination {
    /// To targets of its own.
    Targets(Vec<Target>),
    /// To an upstream that other routes may share.
    Upstream(Id),
}

/// What becomes of the path before it goes upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// It goes as it came.
    Keep,
    /// The matched part is replaced; empty for `strip_prefix`.
    Replace(Box<str>),
}

impl Route {
    /// How long to wait for a response head where nothing else is said.
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// Further attempts where nothing else is said.
    pub const RETRY_COUNT: i32 = 1;

    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::Route) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let route_id = faults.take("route_id", Id::parse(&wire.route_id), Id::unknown());
        faults.take("name", check::text(&wire.name), String::new());
        let host = faults.take("host", HostMatch::parse(&wire.host), HostMatch::Any);
        let path = PathMatch::parse(wire, &mut faults);
        let methods = parse_methods(&wire.methods, &mut faults);
        let destination = Destination::parse(wire, &mut faults);
        let timeout = faults.take("timeout", check::seconds(wire.timeout), None);
        let retry_count = faults.take("retry_count", parse_retries(wire.retry_count), 0);
        let required_permissions = parse_required(&wire.required_permissions, &mut faults);
        let auth_required = wire.auth_required.unwrap_or(true);
        if !auth_required && !required_permissions.is_empty() {
            faults.add("required_permissions", "need a key: set auth_required to true");
        }
        let rate = wire.rate_limit.map(RateLimit::parse).transpose();
        let rate = faults.take("rate_limit", rate, None);
        let fallback = Fallback::parse(&wire.rate_limit_fallback);
        let fallback = faults.take("rate_limit_fallback", fallback, Fallback::default());
        let limits = NamedLimit::parse_all(&wire.limits, true, &mut faults);
        let rewrite = Rewrite::parse(wire, &mut faults);
        labels::check(&wire.labels, &mut faults);
        let recording =
            wire.recording.as_ref().filter(|recording| **recording != v1::Recording::default());
        let recording = recording.and_then(|recording| {
            let part = Recording::parse(recording);
            part.map_err(|part| faults.add_below("recording", part)).ok()
        });
        faults.or(Self {
            route_id,
            host,
            path,
            methods,
            destination,
            timeout,
            retry_count,
            auth_required,
            required_permissions,
            limit: rate.map(|rate| Limit::a_minute(rate, fallback)),
            limits,
            rewrite,
            priority: wire.priority,
            allow_encoded_slash: wire.allow_encoded_slash,
            recording: recording.map(Arc::new),
        })
    }

    /// The timeout of a route without one: never shorter than what a target asks for itself.
    #[must_use]
    pub fn default_timeout(targets: &[Target]) -> Duration {
        let own = targets.iter().filter(|target| target.weight > 0);
        own.filter_map(|target| target.timeout).fold(Self::TIMEOUT, Duration::max)
    }

    /// Whether some request matches both routes and nothing says which of them wins.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let methods_meet = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        self.host == other.host
            && self.path == other.path
            && self.priority == other.priority
            && methods_meet
    }
}

impl HostMatch {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let is_ipv6 = !below && name.starts_with('[') && url::Host::parse(name).is_ok();
        if name.len() > 253 || !(is_ipv6 || name.split('.').all(label_fits)) {
            return Err(
                "must be a host name without a port, such as 'api.example.com' or '*.example.com'"
                    .into(),
            );
        }
        let name = name.to_ascii_lowercase();
        Ok(if below { Self::Below(format!(".{name}").into()) } else { Self::Exact(name.into()) })
    }

    /// Whether a host matches; `host` is in lower case and without a port.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl PathMatch {
    fn parse(wire: &v1::Route, faults: &mut Violations) -> Self {
        let (field, text) = match (wire.path.as_str(), wire.path_prefix.as_str()) {
            ("", "") => {
                faults.add("path", "is missing: give 'path' or 'path_prefix'");
                return Self::Exact("/".into());
            }
            (_, "") => ("path", &wire.path),
            ("", _) => ("path_prefix", &wire.path_prefix),
            (_, _) => {
                faults.add("path", "and 'path_prefix' are both set: keep one of them");
                return Self::Exact("/".into());
            }
        };
        if let Err(description) = check_path(text, wire.allow_encoded_slash) {
            faults.add(field, description);
        }
        if field == "path" {
            Self::Exact(text.as_str().into())
        } else {
            Self::Prefix(text.trim_end_matches('/').into())
        }
    }

    /// Whether a path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl Destination {
    fn parse(wire: &v1::Route, faults: &mut Violations) -> Self {
        if wire.upstream.is_empty() {
            return Self::Targets(Target::parse_all(&wire.targets, faults));
        }
        if !wire.targets.is_empty() {
            faults.add("upstream", "and 'targets' are both set: keep one of them");
        }
        Self::Upstream(faults.take("upstream", Id::parse(&wire.upstream), Id::unknown()))
    }
}

impl Rewrite {
    fn parse(wire: &v1::Route, faults: &mut Violations) -> Self {
        if wire.strip_prefix && wire.path_prefix.is_empty() {
            faults.add("strip_prefix", "needs a 'path_prefix': set one, or use 'rewrite'");
        }
        if wire.strip_prefix && !wire.rewrite.is_empty() {
            faults.add("rewrite", "and 'strip_prefix' are both set: keep one of them");
        }
        if wire.strip_prefix {
            return Self::Replace("".into());
        }
        if wire.rewrite.is_empty() {
            return Self::Keep;
        }
        if let Err(description) = check_path(&wire.rewrite, wire.allow_encoded_slash) {
            faults.add("rewrite", description);
        }
        // What is below a prefix brings its own slash; a whole path keeps the one it ends with.
        let keep_slash = wire.path_prefix.is_empty();
        let text = wire.rewrite.as_str();
        Self::Replace(if keep_slash { text } else { text.trim_end_matches('/') }.into())
    }
}

fn check_path(text: &str, allow_encoded_slash: bool) -> Result<(), String> {
    if text.len() > bounds::PATH {
        return Err(format!("is longer than {} bytes", bounds::PATH));
    }
    if text.contains('?') {
        return Err("holds a query: only the path is matched".into());
    }
    path::check(text.as_bytes(), allow_encoded_slash)
        .map_err(|fault| format!("can never match a request: {fault}"))
}

fn parse_methods(wire: &[String], faults: &mut Violations) -> Vec<Method> {
    if wire.len() > bounds::METHODS {
        faults.add("methods", format!("are more than {}", bounds::METHODS));
    }
    let mut methods = Vec::with_capacity(wire.len());
    for (at, text) in wire.iter().enumerate() {
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                if method == Method::CONNECT {
                    faults.add(format!("methods[{at}]"), "is CONNECT, which is never proxied");
                } else if methods.contains(&method) {
                    faults.add(format!("methods[{at}]"), format!("repeats {text}"));
                }
                methods.push(method);
            }
            _ => faults
                .add(format!("methods[{at}]"), "must be an upper-case method name, such as GET"),
        }
    }
    methods
}

fn parse_required(wire: &[String], faults: &mut Violations) -> Vec<RequiredPermission> {
    if wire.len() > bounds::PERMISSIONS {
        faults.add("required_permissions", format!("are more than {}", bounds::PERMISSIONS));
    }
    let mut required = Vec::with_capacity(wire.len());
    for (at, text) in wire.iter().enumerate() {
        match RequiredPermission::parse(text) {
            Ok(permission) => required.push(permission),
            Err(description) => faults.add(format!("required_permissions[{at}]"), description),
        }
    }
    required
}

fn parse_retries(wire: Option<i32>) -> Result<u32, String> {
    let count = wire.unwrap_or(Route::RETRY_COUNT);
    u32::try_from(count)
        .ok()
        .filter(|_| count <= bounds::RETRIES)
        .ok_or_else(|| format!("is {count}: give 0 to {}", bounds::RETRIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> v1::Route {
        v1::Route {
            route_id: "users".into(),
            path_prefix: "/api/v1/users".into(),
            targets: vec![v1::Target { url: "http://localhost:8001".into(), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn absent_fields_take_their_defaults() {
        let route = Route::parse(&valid()).expect("valid");
        assert_eq!(route.timeout, None);
        assert_eq!(route.retry_count, 1);
        assert!(route.auth_required);
        assert_eq!(route.rewrite, Rewrite::Keep);
        assert_eq!(route.limit, None);
    }

    #[test]
    fn without_a_timeout_a_route_is_as_patient_as_its_targets() {
        let seconds = |targets: &[(Option<f64>, i32)]| {
            let target = |&(timeout, weight): &(Option<f64>, i32)| v1::Target {
                url: "http://a".into(),
                timeout,
                weight: Some(weight),
            };
            let targets = targets.iter().map(target).collect();
            let route = Route::parse(&v1::Route { targets, ..valid() }).expect("valid");
            let Destination::Targets(targets) = route.destination else { panic!("no targets") };
            Route::default_timeout(&targets).as_secs()
        };
        assert_eq!(seconds(&[(None, 1)]), 30);
        assert_eq!(seconds(&[(Some(45.0), 1)]), 45);
        assert_eq!(seconds(&[(Some(2.0), 1), (Some(60.0), 1), (None, 1)]), 60);
        assert_eq!(seconds(&[(Some(2.0), 1)]), 30);
        // Traffic that never goes there waits for nothing there.
        assert_eq!(seconds(&[(Some(60.0), 0), (None, 1)]), 30);
    }

    #[test]
    fn each_fault_names_its_field() {
        type Spoil = fn(&mut v1::Route);
        let cases: [(&str, Spoil); 23] = [
            ("route_id", |r| r.route_id = "Users!".into()),
            ("name", |r| r.name = "a\nb".into()),
            ("host", |r| r.host = "a:80".into()),
            ("path", |r| r.path_prefix.clear()),
            ("path", |r| r.path = "/x".into()),
            ("path_prefix", |r| r.path_prefix = "api".into()),
            ("path_prefix", |r| r.path_prefix = "/a/../b".into()),
            ("methods[0]", |r| r.methods = vec!["get".into()]),
            ("methods[1]", |r| r.methods = vec!["GET".into(), "GET".into()]),
            ("targets", |r| r.targets.clear()),
            ("targets", |r| r.targets[0].weight = Some(0)),
            ("targets[0].weight", |r| r.targets[0].weight = Some(-1)),
            ("targets[0].url", |r| r.targets[0].url = "ftp://x".into()),
            ("targets[0].url", |r| r.targets[0].url = "http://".into()),
            ("targets[0].timeout", |r| r.targets[0].timeout = Some(-1.0)),
            ("upstream", |r| r.upstream = "both".into()),
            ("timeout", |r| r.timeout = Some(f64::NAN)),
            ("retry_count", |r| r.retry_count = Some(11)),
            ("required_permissions[0]", |r| r.required_permissions = vec!["a b".into()]),
            ("required_permissions", |r| {
                r.required_permissions = vec!["a".into()];
                r.auth_required = Some(false);
            }),
            ("rate_limit", |r| r.rate_limit = Some(0)),
            ("rewrite", |r| r.rewrite = "x".into()),
            ("recording.success_sample", |r| {
                r.recording =
                    Some(v1::Recording { success_sample: Some(2.0), ..Default::default() });
            }),
        ];
        for (field, spoil) in cases {
            let mut wire = valid();
            spoil(&mut wire);
            let faults = Route::parse(&wire).expect_err(field);
            let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(fields, [field], "{faults}");
        }
    }

    #[test]
    fn prefixes_match_whole_segments() {
        for (prefix, path, matches) in [
            ("/admin", "/admin", true),
            ("/admin", "/admin/", true),
            ("/admin", "/admin/x", true),
            ("/admin", "/administrator", false),
            ("/admin/", "/admin", true),
            ("/admin/", "/admin/x", true),
            ("/", "/anything", true),
            ("/a", "/A", false),
        ] {
            let mut wire = valid();
            wire.path_prefix = prefix.into();
            let route = Route::parse(&wire).expect("valid");
            assert_eq!(route.path.matches(path), matches, "{prefix} {path}");
        }
    }

    #[test]
    fn hosts_match_exactly_or_below() {
        for (pattern, host, matches) in [
            ("", "any.host", true),
            ("api.example.com", "api.example.com", true),
            ("API.example.com", "api.example.com", true),
            ("api.example.com", "x.api.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
        ] {
            let host_match = HostMatch::parse(pattern).expect("valid");
            assert_eq!(host_match.matches(host), matches, "{pattern} {host}");
        }
    }

    #[test]
    fn only_routes_that_nothing_tells_apart_collide() {
        let base = Route::parse(&valid()).expect("valid");
        let with = |change: fn(&mut v1::Route)| {
            let mut wire = valid();
            change(&mut wire);
            Route::parse(&wire).expect("valid")
        };
        assert!(base.collides_with(&with(|r| r.methods = vec!["GET".into()])));
        assert!(base.collides_with(&with(|r| r.path_prefix = "/api/v1/users/".into())));
        assert!(!base.collides_with(&with(|r| r.priority = 1)));
        assert!(!base.collides_with(&with(|r| r.host = "a.b".into())));
        let get = with(|r| r.methods = vec!["GET".into()]);
        assert!(!get.collides_with(&with(|r| r.methods = vec!["PUT".into()])));
    }
}
