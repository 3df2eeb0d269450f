//! What is explained is what happens; and explaining it makes nothing happen.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{ExplainRequest, Explanation, Limit, RequestHeader, Route},
    node::v1::KeyRecord,
};

use super::node::{Node, Upstream, dead_target, key, route};

/// A request as both are told it.
fn request(method: &str, target: &str, headers: &str) -> ExplainRequest {
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        RequestHeader { name: name.into(), value: value.into() }
    };
    ExplainRequest {
        method: method.into(),
        target: target.into(),
        headers: headers.split("\r\n").filter(|line| !line.is_empty()).map(header).collect(),
        ..Default::default()
    }
}

fn send(node: &Node, asked: &ExplainRequest) -> u16 {
    let lines = asked.headers.iter().map(|header| format!("{}: {}\r\n", header.name, header.value));
    let lines: String = lines.collect();
    node.send(&format!("{} {} HTTP/1.1\r\n{lines}\r\n", asked.method, asked.target)).status
}

fn routes(upstream: &Upstream) -> Vec<Route> {
    let mut open = route("open", "/open", upstream);
    open.auth_required = Some(false);
    let mut reads = route("reads", "/reads", upstream);
    reads.methods = vec!["GET".into(), "HEAD".into()];
    let mut guarded = route("guarded", "/guarded", upstream);
    guarded.required_permissions = vec!["orders:read".into(), "users:read".into()];
    let mut host = route("host", "/", upstream);
    host.host = "only.example".into();
    let mut slashes = route("slashes", "/files", upstream);
    slashes.allow_encoded_slash = true;
    vec![open, reads, guarded, host, slashes]
}

#[test]
fn a_request_that_is_explained_is_answered_as_it_was_said() {
    let upstream = Upstream::hello();
    let past = SystemTime::now() - Duration::from_secs(1);
    let past = past.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let (mut revoked, revoked_secret) = key("revoked", &["*"]);
    revoked.is_active = false;
    let (mut expired, expired_secret) = key("expired", &["*"]);
    expired.expires_at_ms = Some(i64::try_from(past).expect("not that late"));
    let (one, one_secret) = key("one", &["orders:*"]);
    let (all, all_secret) = key("all", &["*"]);
    let (_, unknown_secret) = key("unknown", &[]);
    let node = Node::start(routes(&upstream), vec![revoked, expired, one, all]);

    let secrets = [&revoked_secret, &expired_secret, &one_secret, &all_secret, &unknown_secret];
    let mut keys: Vec<_> = secrets.iter().map(|secret| format!("x-api-key: {secret}")).collect();
    keys.push(format!("authorization: bearer {all_secret}"));
    keys.push(format!("authorization: Bearer {one_secret}\r\nx-api-key: {all_secret}"));
    keys.push("x-api-key: junk".into());
    keys.push(String::new());
    let hosts = ["host: a", "host: only.example:80", "host: a\r\nhost: a", "host: a b"];
    let targets = [
        "/open/x?q=1",
        "/reads/x",
        "/guarded",
        "/elsewhere",
        "/files/a%2Fb",
        "/open/a%2fb",
        "/open/../x",
        "http://only.example/x",
        "nothing",
        "*",
    ];
    let mut met = Vec::new();
    for target in targets {
        for method in ["GET", "DELETE", "OPTIONS", "CONNECT"] {
            for (host, key) in hosts.iter().flat_map(|host| keys.iter().map(move |key| (host, key)))
            {
                let headers = [host, key.as_str(), "content-length: 0"].join("\r\n");
                let asked = request(method, target, &headers);
                let said = node.explain(&asked);
                let status = send(&node, &asked);
                let expected = if said.status_code == 0 { 200 } else { said.status_code };
                assert_eq!(i32::from(status), expected, "{asked:?}: {said:?}");
                let event = node.event();
                assert_eq!(event.error.unwrap_or_default(), said.error, "{asked:?}");
                let route = event.route_id.map(|id| id.to_string()).unwrap_or_default();
                assert_eq!(route, said.route_id, "{asked:?}: {said:?}");
                met.push(said.error);
            }
        }
    }
    met.sort();
    met.dedup();
    assert_eq!(
        met,
        [
            "",
            "key_expired",
            "key_missing",
            "key_revoked",
            "key_unknown",
            "malformed",
            "method_not_allowed",
            "no_route",
            "permission_missing",
        ]
    );
}

#[test]
fn explaining_sends_counts_and_records_nothing() {
    let upstream = Upstream::hello();
    let mut limited = route("limited", "/", &upstream);
    limited.limits =
        vec![Limit { name: "burst".into(), amount: 3, cost: Some(2), ..Default::default() }];
    let (mut record, secret) = key("k1", &[]);
    record.rate_limit = Some(5);
    let node = Node::start(vec![limited], vec![record]);
    let asked = request("GET", "/a?b", &format!("host: a\r\nx-api-key: {secret}"));
    let limits = |said: &Explanation| -> Vec<_> {
        let limits = said.limits.iter().map(|limit| {
            let standing = limit.standing.clone().expect("a standing");
            (standing.name, standing.remaining, limit.admits)
        });
        limits.collect()
    };
    for _ in 0..20 {
        let said = node.explain(&asked);
        assert_eq!(said.status_code, 0);
        assert_eq!(limits(&said), [("key".into(), 5, true), ("route:burst".into(), 3, true)]);
    }
    assert!(upstream.received().is_empty());
    assert!(node.has_no_event());

    assert_eq!(send(&node, &asked), 200);
    let said = node.explain(&asked);
    assert_eq!((said.status_code, &*said.error), (429, "rate_limited"));
    assert_eq!(limits(&said), [("key".into(), 4, true), ("route:burst".into(), 1, false)]);
    assert_eq!(said.detail, "used up: route:burst");
    assert_eq!(send(&node, &asked), 429);
}

#[test]
fn targets_are_told_with_their_shares_and_what_they_would_be_asked() {
    let upstream = Upstream::hello();
    let mut split = route("split", "/api", &upstream);
    split.strip_prefix = true;
    split.auth_required = Some(false);
    let (mut heavy, mut none) = (dead_target(), dead_target());
    heavy.url = "http://heavy.example/base/".into();
    heavy.weight = Some(3);
    none.weight = Some(0);
    split.targets.extend([heavy, none]);
    let node = Node::start(vec![split], vec![]);
    let said = node.explain(&request("GET", "/api/x?y", "host: a"));
    let told: Vec<_> =
        said.targets.iter().map(|target| (target.share, &*target.request_url)).collect();
    let plain = format!("{}/x?y", upstream.target().url.trim_end_matches('/'));
    assert_eq!(told, [(0.25, &*plain), (0.75, "http://heavy.example:80/base/x?y")]);
    assert_eq!(said.key.expect("is told").state, "not_asked");
}

#[test]
fn what_is_known_of_a_key_and_its_permissions_is_told() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &["orders:*"]);
    let record = KeyRecord { plan_id: "gold".into(), ..record };
    let node = Node::start(routes(&upstream), vec![record]);
    let asked = request("GET", "/guarded/7", &format!("host: a\r\nx-api-key: {secret}"));
    let said = node.explain(&asked);
    assert_eq!((said.status_code, &*said.error), (403, "permission_missing"));
    assert_eq!(said.detail, "key 'k1' does not hold users:read");
    let held: Vec<_> =
        said.permissions.iter().map(|asked| (&*asked.permission, &*asked.held)).collect();
    assert_eq!(held, [("orders:read", "orders:*"), ("users:read", "")]);
    let key = said.key.expect("is told");
    assert_eq!((&*key.key_id, &*key.state, &*key.source_path), ("k1", "valid", "mobile_app"));
    assert_eq!((key.secret_version, &*key.plan_id), (1, "gold"));
    assert!(said.limits.is_empty(), "it does not come to limits");
}
