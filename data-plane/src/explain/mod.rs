//! What would become of a request, for people who ask.
//!
//! ```text
//! head -> read -> match -> identify -> authorise -> look at limits -> targets
//! ```
//!
//! The steps are those of `gateway`, and so is the code that takes each of them: a request is found its
//! route by the same search, its key by the same lookup, its limits by the same list. But nothing is
//! sent, counted or recorded. It runs beside the requests, on the snapshot they are served from.

mod candidates;
mod standings;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1::{
        ExplainRequest, Explanation, KeyFinding, LimitFinding, PermissionFinding, TargetFinding,
    },
    model::{self, Route},
    secret::SecretHash,
};

use self::candidates::Wanted;
pub(crate) use self::standings::{Says, Standings, Stands};
use crate::{
    admission,
    auth::{self, Sent},
    buffers::CAPACITY,
    callers::{Caller, Callers},
    error::{Malformed, Refusal},
    forwarding,
    framing::{self, Framing},
    gateway,
    head::Lines,
    limits::{Limiter, Policies},
    request::{self, Asked, RequestHead, Target},
    route::CompiledRoute,
    settings::Settings,
    snapshot::{InUse, Snapshot, SnapshotCell},
};

/// Where a request comes from that nobody says it of.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a node explains requests with.
pub(crate) struct Explainer<'a> {
    pub(crate) node_id: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) snapshots: &'a SnapshotCell,
    pub(crate) limiter: &'a Limiter,
    /// Whether requests are taken as far as their audit events are concerned.
    pub(crate) has_room: bool,
}

/// A request that is not sent.
struct Imagined<'a> {
    /// Its head, as it would be read.
    bytes: &'a [u8],
    from: IpAddr,
    /// In place of one in its head.
    secret: Option<SecretHash>,
}

/// All of it but where the limits stand, which may take a while to learn.
pub(crate) struct Pending {
    told: Explanation,
    /// Those it came to.
    limits: Standings,
    /// What is said to it, if the limits let it pass.
    refusal: Option<Refusal>,
}

impl Explainer<'_> {
    /// Goes the way of a request as if it had come just now. `secret` is one of the key it names, if it
    /// names one: it counts as sent.
    ///
    /// # Errors
    /// What of the question can't be understood.
    pub(crate) fn begin(
        &self,
        request: &ExplainRequest,
        secret: Option<SecretHash>,
    ) -> Result<Pending, String> {
        let from = match request.from.as_str() {
            "" => HERE,
            text => text.parse().map_err(|_| format!("'{text}' is no address"))?,
        };
        let bytes = head_of(request);
        let imagined = Imagined { bytes: &bytes, from, secret };
        let snapshot = self.snapshots.reader().load();
        let mut told = Explanation { node_id: self.node_id.to_owned(), ..Explanation::default() };
        if let Some(snapshot) = &snapshot {
            told.keys_revision = snapshot.keys_revision;
            told.config_revision = snapshot.config_revision;
        }
        let mut limits = Standings::new(self.node_id, self.limiter);
        let refusal = self.walk(&imagined, snapshot.as_ref(), &mut told, &mut limits).err();
        Ok(Pending { told, limits, refusal })
    }

    /// Notes what it meets, in the order a request would.
    fn walk(
        &self,
        imagined: &Imagined<'_>,
        snapshot: Option<&InUse>,
        told: &mut Explanation,
        limits: &mut Standings,
    ) -> Result<(), Refusal> {
        let bytes = imagined.bytes;
        if bytes.len() > CAPACITY {
            return Err(Refusal::HeadTooLarge);
        }
        let parsed = request::parse(bytes)?.ok_or(Malformed::Head)?;
        let head = RequestHead {
            method: &parsed.method,
            target: Target::parse(bytes.get(parsed.target.clone()).unwrap_or_default()),
            version: parsed.version,
            lines: Lines::new(bytes, &parsed.index),
        };
        let trusted = &self.settings.trusted_proxies;
        let client = forwarding::client_address(head.lines, imagined.from, trusted);
        told.client_address = client.to_canonical().to_string();
        let framing = framing::Said::by_request(head.lines, true)?.framing;
        let snapshot = snapshot.ok_or(Refusal::NotReady)?;
        if !self.has_room {
            return Err(Refusal::AuditSpoolFull);
        }
        let (host, path) = match head.asked()? {
            Asked::Resource { host, path } => (host, path),
            Asked::Server => {
                told.status_code = 204;
                "the gateway answers 'OPTIONS *' by itself".clone_into(&mut told.detail);
                return Ok(());
            }
            Asked::Tunnel => return Err(Refusal::MethodNotAllowed(Vec::new())),
        };
        let route = find_route(snapshot, (&host, path), &head, told)?;
        let caller = find_caller(snapshot, route, imagined, &head, told)?;
        let caller = caller.as_deref();
        auth::authorise(&route.route, caller)?;
        let mut policies = Policies::default();
        admission::collect(&mut policies, snapshot, &route.route, (caller, client));
        for (subject, scope, limit, cost) in policies.iter() {
            limits.add(subject, scope, &limit, cost);
        }
        match (framing, self.settings.max_body_size) {
            (Framing::Length(length), Some(max)) if length > max => Err(Refusal::BodyTooLarge),
            _ if told.targets.is_empty() => Err(Refusal::Unreachable),
            _ => Ok(()),
        }
    }
}

/// Finds the route, and tells which others there are and where it leads to.
fn find_route<'a>(
    snapshot: &'a Snapshot,
    (host, path): (&str, &str),
    head: &RequestHead<'_>,
    told: &mut Explanation,
) -> Result<&'a CompiledRoute, Refusal> {
    host.clone_into(&mut told.host);
    path.clone_into(&mut told.path);
    let wanted = Wanted { host, path };
    let (found, met) = snapshot.routes.explain(host, path, head.method);
    (told.candidates, told.other_routes) = candidates::tell(wanted, &snapshot.routes, met);
    let compiled = gateway::taken(found, path)?;
    told.route_id = compiled.route.route_id.to_string();
    told.permissions = required(&compiled.route, None);
    told.targets = targets(snapshot, compiled, head, path);
    Ok(compiled)
}

/// Finds the key, and tells what there is to know of it.
fn find_caller(
    snapshot: &InUse,
    compiled: &CompiledRoute,
    imagined: &Imagined<'_>,
    head: &RequestHead<'_>,
    told: &mut Explanation,
) -> Result<Option<Rc<Caller>>, Refusal> {
    let callers = Callers::default();
    let in_head = auth::sent(head.lines, &callers)?.sent;
    let sent = match (&imagined.secret, in_head) {
        (None, in_head) => in_head,
        (Some(secret), Sent::Nothing) => Sent::New(callers.fingerprint(&[]), *secret),
        (Some(_), _) => return Err(Malformed::TwoKeys.into()),
    };
    let is_junk = matches!(sent, Sent::Junk);
    let mut met = None;
    let now = (SystemTime::now(), &mut met);
    let found = auth::identify(snapshot, &compiled.route, sent, &callers, now);
    let state = match &found {
        Ok(Some(_)) => "valid",
        Ok(None) => "not_asked",
        Err(Refusal::KeyMissing) => "missing",
        Err(Refusal::KeyRevoked) => "revoked",
        Err(Refusal::KeyExpired) => "expired",
        Err(_) if is_junk => "malformed",
        Err(_) => "unknown",
    };
    told.key = Some(key_finding(state, met.as_deref()));
    told.permissions = required(&compiled.route, met.as_deref());
    found
}

fn key_finding(state: &str, met: Option<&Caller>) -> KeyFinding {
    let state = state.to_owned();
    let Some(caller) = met else { return KeyFinding { state, ..KeyFinding::default() } };
    let entry = &caller.entry;
    KeyFinding {
        key_id: entry.key.key_id().to_owned(),
        state,
        source_path: caller.source_path.to_string(),
        secret_version: entry.version,
        expires_at: entry.ends_at().map(Into::into),
        permissions: entry.key.permissions().map(str::to_owned).collect(),
        plan_id: entry.key.plan_id().to_owned(),
    }
}

/// What a route asks for, each with what the key holds that covers it.
fn required(route: &Route, met: Option<&Caller>) -> Vec<PermissionFinding> {
    let asked = route.required_permissions.iter().map(|asked| {
        let mut held = met.into_iter().flat_map(|caller| caller.entry.key.permissions());
        let covers = |held: &&str| model::allows([*held].into_iter(), std::slice::from_ref(asked));
        let held = held.find(covers).unwrap_or_default().to_owned();
        PermissionFinding { permission: asked.to_string(), held }
    });
    asked.collect()
}

fn targets(
    snapshot: &Snapshot,
    compiled: &CompiledRoute,
    head: &RequestHead<'_>,
    path: &str,
) -> Vec<TargetFinding> {
    let Some(set) = snapshot.targets(compiled) else { return Vec::new() };
    let path = compiled.rewrite(path);
    let query = head.target.query.map(|query| format!("?{}", String::from_utf8_lossy(query)));
    let query = query.unwrap_or_default();
    let told = set.shares().map(|(ready, share)| TargetFinding {
        url: ready.url.to_string(),
        share,
        request_url: format!(
            "http://{}{}{path}{query}",
            ready.authority,
            ready.target.url.base_path()
        ),
    });
    told.collect()
}

impl Pending {
    /// Looks where the limits stand, and says what comes of it all.
    pub(crate) async fn finish(self) -> Explanation {
        let Self { mut told, limits, mut refusal } = self;
        if limits.len() > 0 {
            match limits.look().await {
                Ok(stands) => {
                    refusal = refused_by(&stands).or(refusal);
                    let finding = |Stands { told, says }| LimitFinding {
                        standing: Some(told),
                        admits: says == Says::Pass,
                    };
                    told.limits = stands.into_iter().map(finding).collect();
                }
                Err(fault) => told.limits_fault = fault,
            }
        }
        if let Some(refusal) = refusal {
            told.status_code = refusal.status().as_u16().into();
            refusal.audit_name().clone_into(&mut told.error);
            told.detail = detail(&refusal, &told);
        }
        told
    }
}

fn refused_by(stands: &[Stands]) -> Option<Refusal> {
    if stands.iter().any(|stands| stands.says == Says::Closed) {
        return Some(Refusal::LimitsUnavailable);
    }
    let used_up = stands.iter().filter(|stands| stands.says == Says::Wait);
    let violated: Vec<Box<str>> = used_up.map(|stands| stands.told.name.as_str().into()).collect();
    let retry_after = Duration::ZERO;
    (!violated.is_empty()).then_some(Refusal::RateLimited { retry_after, violated })
}

/// Why a request is refused, for whoever runs the gateway: clients are told less.
fn detail(refusal: &Refusal, told: &Explanation) -> String {
    let key = told.key.clone().unwrap_or_default();
    match refusal {
        Refusal::KeyMissing => "no API key was sent".to_owned(),
        Refusal::KeyUnknown if key.state == "malformed" => {
            "what was sent is no API key: it has another form, or a character of it is wrong"
                .to_owned()
        }
        Refusal::KeyUnknown => {
            "the secret that was sent opens no key of this environment".to_owned()
        }
        Refusal::KeyRevoked => format!("key '{}' is revoked", key.key_id),
        Refusal::KeyExpired => {
            format!("key '{}', or secret {} of it, has expired", key.key_id, key.secret_version)
        }
        Refusal::PermissionMissing => {
            let missing = told.permissions.iter().filter(|asked| asked.held.is_empty());
            let missing: Vec<_> = missing.map(|asked| &*asked.permission).collect();
            format!("key '{}' does not hold {}", key.key_id, missing.join(", "))
        }
        Refusal::MethodNotAllowed(methods) if !methods.is_empty() => {
            let methods: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            format!("routes of this path are for {}", methods.join(", "))
        }
        Refusal::RateLimited { violated, .. } => format!("used up: {}", violated.join(", ")),
        other => other.to_string(),
    }
}

/// The head of a request as HTTP/1.1 writes it.
fn head_of(request: &ExplainRequest) -> Vec<u8> {
    let method = if request.method.is_empty() { "GET" } else { &request.method };
    let mut bytes = format!("{method} {} HTTP/1.1\r\n", request.target).into_bytes();
    let names_host = |name: &str| name.eq_ignore_ascii_case("host");
    if !request.headers.iter().any(|header| names_host(&header.name)) {
        let authority = Target::parse(request.target.as_bytes()).authority;
        forwarding::put_line(&mut bytes, b"host", authority.unwrap_or(b"localhost"));
    }
    for header in &request.headers {
        forwarding::put_line(&mut bytes, header.name.as_bytes(), header.value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
