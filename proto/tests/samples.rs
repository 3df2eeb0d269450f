//! Every message of the node port, with all its fields set as far as they go together.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;

use crate::{admin::v1 as admin, digest::Digest, node::v1::*};

/// A message as it is said.
pub(super) struct Sample {
    /// Of its file.
    pub(super) name: &'static str,
    /// In the `.proto` files.
    pub(super) message: &'static str,
    pub(super) encoded: Vec<u8>,
    /// For comparison.
    pub(super) decoded: String,
    pub(super) decode: fn(&[u8]) -> String,
}

fn sample<M: Message + Default + Debug>(
    name: &'static str,
    message: &'static str,
    value: M,
) -> Sample {
    fn decode<M: Message + Default + Debug>(bytes: &[u8]) -> String {
        format!("{:?}", M::decode(bytes).expect("can be read"))
    }
    let (encoded, decoded) = (value.encode_to_vec(), format!("{value:?}"));
    Sample { name, message, encoded, decoded, decode: decode::<M> }
}

/// All of them.
pub(super) fn samples() -> Vec<Sample> {
    let mut samples: Vec<_> = from_node().into_iter().chain(from_control_plane()).collect();
    samples.extend(of_audit());
    samples.extend(of_identity());
    samples.extend(values());
    samples
}

fn from_node() -> Vec<Sample> {
    use node_message::Body;
    let of = "fastgate.node.v1.NodeMessage";
    let say = |name, body| sample(name, of, NodeMessage { body: Some(body) });
    let keys = i32::from(Namespace::Keys);
    let answer = |told| Body::Answer(Answer { question_id: 9, fault: String::new(), told });
    let nack = Nack {
        ns: Namespace::Config.into(),
        revision: 8,
        errors: vec![EntityError {
            kind: EntityKind::Route.into(),
            id: "r1".into(),
            field: "targets[0].url".into(),
            message: "is no URL".into(),
        }],
    };
    let health = admin::NodeHealth {
        config_revision: 8,
        requests: 1000,
        server_errors: 3,
        durations: vec![0, 1, 300],
    };
    vec![
        say(
            "hello",
            Body::Hello(Hello {
                node_id: "n1".into(),
                boot_id: "0192f0c1-0000-7000-8000-000000000001".into(),
                version: "0.1.0".into(),
                environment: "default".into(),
                held: vec![Held { ns: keys, epoch: "e1".into(), revision: 7, digest: digest() }],
                refused: vec![Refusal { epoch: "e1".into(), nack: Some(nack.clone()) }],
                labels: vec!["tier=canary".into()],
                answers_questions: true,
                uptime_ms: 12_345,
            }),
        ),
        say("ack", Body::Ack(Ack { ns: keys, revision: 7, digest: digest(), apply_us: 250 })),
        say("nack", Body::Nack(nack.clone())),
        say(
            "status",
            Body::Status(Status {
                events_produced: 100,
                events_dropped: 1,
                limits_state: "redis".into(),
                quarantined: nack.errors,
                events_stored: 90,
                events_spooled: 9,
                events_left: 4,
                spool_bytes: 4096,
                spool_limit: 1 << 20,
                spool_full: true,
                health: Some(health.clone()),
                health_before: Some(health),
            }),
        ),
        say(
            "answer_limits",
            answer(Some(answer::Told::Limits(LimitReport { limits: vec![standing()] }))),
        ),
        say("answer_explanation", answer(Some(answer::Told::Explanation(explanation())))),
        say("answer_holding", answer(Some(answer::Told::Holding(holding())))),
        say(
            "answer_fault",
            Body::Answer(Answer { question_id: 9, fault: "knows no such key".into(), told: None }),
        ),
    ]
}

fn from_control_plane() -> Vec<Sample> {
    use control_message::Body;
    let of = "fastgate.node.v1.ControlMessage";
    let say = |name, body| sample(name, of, ControlMessage { body: Some(body) });
    let ask = |ask| Body::Question(Question { question_id: 9, ask: Some(ask) });
    let mut said = Vec::new();
    let (keys, config): (Vec<_>, Vec<_>) =
        entities().into_iter().partition(|entity| entity.kind() == EntityKind::Key);
    for (ns, entities, [begin, chunk, end]) in [
        (Namespace::Keys, keys, ["keys_begin", "keys_chunk", "keys_end"]),
        (Namespace::Config, config, ["config_begin", "config_chunk", "config_end"]),
    ] {
        let digest: Digest = entities.iter().cloned().collect();
        let (ns, entity_count) = (ns.into(), entities.len() as u64);
        let begun = SnapshotBegin { ns, epoch: "e1".into(), revision: 7, entity_count };
        said.push(say(begin, Body::SnapshotBegin(begun)));
        let data: Bytes = EntitySet { entities }.encode_to_vec().into();
        let crc32 = crc32fast::hash(&data);
        said.push(say(chunk, Body::SnapshotChunk(SnapshotChunk { data, crc32 })));
        let digest = digest.to_bytes().to_vec();
        said.push(say(end, Body::SnapshotEnd(SnapshotEnd { digest })));
    }
    let gone = EntityRef { kind: EntityKind::Key.into(), id: "k1".into() };
    let second = Entity {
        kind: EntityKind::Key.into(),
        id: "k2".into(),
        value: KeyRecord { key_id: "k2".into(), ..key() }.encode_to_vec().into(),
    };
    let after: Digest = [second.clone()].into_iter().collect();
    said.extend([
        say(
            "delta",
            Body::Delta(Delta {
                ns: Namespace::Keys.into(),
                epoch: "e1".into(),
                from: 7,
                to: 9,
                changes: vec![
                    Change { change: Some(change::Change::Upsert(second)) },
                    Change { change: Some(change::Change::Delete(gone)) },
                ],
                digest_after: after.to_bytes().to_vec(),
            }),
        ),
        say(
            "heartbeat",
            Body::Heartbeat(Heartbeat { keys_revision: 7, config_revision: 8, node_count: 3 }),
        ),
        say("drain", Body::Drain(Drain {})),
        say(
            "question_limits",
            ask(question::Ask::Limits(LimitQuery { key_id: "k1".into(), reset: true })),
        ),
        say(
            "question_explain",
            ask(question::Ask::Explain(admin::ExplainRequest {
                environment: "default".into(),
                node_id: "n1".into(),
                method: "GET".into(),
                target: "/orders".into(),
                headers: vec![admin::RequestHeader { name: "a".into(), value: "b".into() }],
                from: "192.0.2.1".into(),
                key_id: "k1".into(),
            })),
        ),
        say("question_holding", ask(question::Ask::Holding(HoldingQuery { with_config: true }))),
    ]);
    said
}

fn of_audit() -> Vec<Sample> {
    let gap = Gap { first_seq: 3, events: 4, reason: "killed".into() };
    let batch = Batch {
        node_id: "n1".into(),
        boot_id: "0192f0c1-0000-7000-8000-000000000001".into(),
        environment: "default".into(),
        first_seq: 10,
        events: vec![event()],
        gaps: vec![gap],
        counted: vec![admin::LogEvent { status_code: 200, ..Default::default() }],
    };
    let query = UsageQuery {
        environment: "default".into(),
        key_id: "k1".into(),
        route_id: "r1".into(),
        period: UsagePeriod::Month.into(),
    };
    let usage = Usage { requests: 1, request_bytes: 2, response_bytes: 3, ends_in_ms: 86_400_000 };
    let filter = admin::TailLogsRequest {
        environment: "default".into(),
        status_code: "4xx".into(),
        rate_limited: Some(false),
        min_ttfb_ms: 1.5,
        ..Default::default()
    };
    let report = TailReport {
        node: Some(TailingNode { node_id: "n1".into(), environment: "default".into() }),
        events: vec![TailedEvent { event: Some(event()), tail_ids: vec![5, 600] }],
        tails: vec![TailProgress { tail_id: 5, since: Some(time()), passed_over: 7 }],
    };
    let open = OpenTails { tails: vec![OpenTail { tail_id: 5, filter: Some(filter) }] };
    vec![
        sample("batch", "fastgate.node.v1.Batch", batch),
        sample("batch_ack", "fastgate.node.v1.BatchAck", BatchAck { first_seq: 10 }),
        sample("usage_query", "fastgate.node.v1.UsageQuery", query),
        sample("usage", "fastgate.node.v1.Usage", usage),
        sample("tail_report", "fastgate.node.v1.TailReport", report),
        sample("open_tails", "fastgate.node.v1.OpenTails", open),
    ]
}

fn of_identity() -> Vec<Sample> {
    let join = JoinRequest {
        token: "fgj_secret".into(),
        environment: "default".into(),
        node_id: "n1".into(),
        csr: vec![0x30, 0x82],
    };
    let issued = IssuedCertificate { certificate: "leaf".into(), ca: "root".into() };
    vec![
        sample("join_request", "fastgate.node.v1.JoinRequest", join),
        sample("renew_request", "fastgate.node.v1.RenewRequest", RenewRequest { csr: vec![0x30] }),
        sample("issued_certificate", "fastgate.node.v1.IssuedCertificate", issued),
    ]
}

/// What stands in entities.
fn values() -> Vec<Sample> {
    vec![
        sample("key", "fastgate.node.v1.KeyRecord", key()),
        sample("key_reset", "fastgate.node.v1.KeyRecord", reset_key()),
        sample("settings", "fastgate.node.v1.Settings", Settings { default_rate_limit: 100 }),
        sample("plan", "fastgate.admin.v1.Plan", plan()),
        sample("upstream", "fastgate.admin.v1.Upstream", upstream()),
        sample("route", "fastgate.admin.v1.Route", route()),
    ]
}

/// What an environment holds: one of each kind.
pub(super) fn entities() -> Vec<Entity> {
    fn entity(kind: EntityKind, id: &str, value: &impl Message) -> Entity {
        Entity { kind: kind.into(), id: id.into(), value: value.encode_to_vec().into() }
    }
    vec![
        entity(EntityKind::Key, "k1", &key()),
        entity(EntityKind::Settings, "default", &Settings { default_rate_limit: 100 }),
        entity(EntityKind::Plan, "gold", &plan()),
        entity(EntityKind::Upstream, "u1", &upstream()),
        entity(EntityKind::Route, "r1", &route()),
    ]
}

fn key() -> KeyRecord {
    KeyRecord {
        key_id: "k1".into(),
        source_path: "mobile_app".into(),
        permissions: vec!["orders:*".into(), "users:read".into()],
        expires_at_ms: Some(4_000_000_000_000),
        is_active: true,
        rate_limit: Some(200),
        rate_limit_fallback: "open".into(),
        secrets: vec![SecretRecord {
            version: 1,
            hash: vec![7; 32],
            expires_at_ms: Some(3_000_000_000_000),
            created_at_ms: 1_795_000_000_000,
        }],
        plan_id: "gold".into(),
        limits_reset_at_ms: None,
    }
}

/// Fields that came later stand in samples of their own: the bytes of those that were there stay.
fn reset_key() -> KeyRecord {
    KeyRecord { limits_reset_at_ms: Some(1_796_000_000_000), ..key() }
}

fn plan() -> admin::Plan {
    admin::Plan {
        plan_id: "gold".into(),
        environment: "default".into(),
        description: "for those who pay".into(),
        rate_limit: Some(1000),
        rate_limit_fallback: "closed".into(),
        limits: vec![limit()],
        labels: [("team".into(), "payments".into())].into(),
        ..Default::default()
    }
}

fn limit() -> admin::Limit {
    admin::Limit {
        name: "burst".into(),
        amount: 10,
        period: "second".into(),
        burst: Some(20),
        counts: "each".into(),
        fallback: "local_share".into(),
        shadow: true,
        cost: Some(2),
        charge: String::new(),
    }
}

fn upstream() -> admin::Upstream {
    admin::Upstream {
        upstream_id: "u1".into(),
        environment: "default".into(),
        targets: vec![target()],
        connect_timeout: Some(1.5),
        description: "orders".into(),
        labels: [("team".into(), "orders".into())].into(),
        ..Default::default()
    }
}

fn target() -> admin::Target {
    admin::Target { url: "http://orders:8001/v1".into(), weight: Some(70), timeout: Some(30.0) }
}

fn route() -> admin::Route {
    admin::Route {
        route_id: "r1".into(),
        name: "订单服务".into(),
        environment: "default".into(),
        host: "*.example.com".into(),
        path_prefix: "/orders".into(),
        methods: vec!["GET".into(), "POST".into()],
        upstream: "u1".into(),
        timeout: Some(45.0),
        retry_count: Some(3),
        auth_required: Some(true),
        required_permissions: vec!["orders:read".into()],
        rate_limit: Some(200),
        strip_prefix: true,
        priority: -5,
        allow_encoded_slash: true,
        rate_limit_fallback: "open".into(),
        limits: vec![admin::Limit { shadow: false, ..limit() }],
        recording: Some(admin::Recording {
            request_headers: vec!["accept".into()],
            response_headers: vec!["etag".into()],
            success_sample: Some(0.5),
            request_body_bytes: 100,
            response_body_bytes: 200,
            body_types: vec!["text/*".into()],
            redact: vec!["$.password".into()],
        }),
        labels: [("team".into(), "orders".into())].into(),
        ..Default::default()
    }
}

fn event() -> admin::LogEvent {
    let header = |name: &str| admin::RecordedHeader { name: name.into(), value: "x".into() };
    let body = admin::RecordedBody {
        content_type: "text/plain".into(),
        text: "hello".into(),
        truncated: true,
        omitted: String::new(),
    };
    admin::LogEvent {
        timestamp: Some(time()),
        request_id: "0192f0c1-0000-7000-8000-000000000002".into(),
        key_id: "k1".into(),
        source_path: "mobile_app".into(),
        method: "GET".into(),
        path: "/orders/1".into(),
        target_url: "http://orders:8001/v1".into(),
        status_code: 502,
        response_time_ms: 12.5,
        request_size: 10,
        response_size: 20,
        user_agent: "curl/8".into(),
        ip_address: "192.0.2.1".into(),
        environment: "default".into(),
        node_id: "n1".into(),
        route_id: "r1".into(),
        upstream_time_ms: 10.25,
        ttfb_ms: 11.0,
        attempts: 2,
        error: "upstream_broke_off".into(),
        rate_limited: true,
        secret_version: 1,
        response_chunks: 4,
        response_end: "upstream_broke_off".into(),
        request_headers: vec![header("accept")],
        response_headers: vec![header("etag")],
        request_body: Some(body.clone()),
        response_body: Some(body),
    }
}

fn standing() -> admin::LimitStanding {
    admin::LimitStanding {
        name: "key".into(),
        route_id: "r1".into(),
        limit: Some(limit()),
        remaining: 5,
        reset: 6,
        counted_by: "redis".into(),
    }
}

fn explanation() -> admin::Explanation {
    admin::Explanation {
        node_id: "n1".into(),
        keys_revision: 7,
        config_revision: 8,
        status_code: 403,
        error: "permission_missing".into(),
        detail: "orders:write is not held".into(),
        client_address: "192.0.2.1".into(),
        host: "a.example.com".into(),
        path: "/orders".into(),
        route_id: "r1".into(),
        candidates: vec![admin::RouteCandidate {
            route_id: "r2".into(),
            host: "a".into(),
            path: "/a".into(),
            path_prefix: String::new(),
            methods: vec!["GET".into()],
            priority: 1,
            outcome: "lost".into(),
            reason: "path".into(),
            detail: "is less specific".into(),
        }],
        other_routes: 3,
        key: Some(admin::KeyFinding {
            key_id: "k1".into(),
            state: "valid".into(),
            source_path: "mobile_app".into(),
            secret_version: 1,
            expires_at: Some(time()),
            permissions: vec!["orders:read".into()],
            plan_id: "gold".into(),
        }),
        permissions: vec![admin::PermissionFinding {
            permission: "orders:read".into(),
            held: "orders:*".into(),
        }],
        limits: vec![admin::LimitFinding { standing: Some(standing()), admits: true }],
        limits_fault: "Redis is away".into(),
        targets: vec![admin::TargetFinding {
            url: "http://orders:8001".into(),
            share: 0.5,
            request_url: "http://orders:8001/".into(),
        }],
    }
}

fn holding() -> admin::NodeConfig {
    let namespace = |revision| admin::NamespaceConfig {
        epoch: "e1".into(),
        revision,
        digest: "00".into(),
        compared: "match".into(),
        head: revision + 1,
    };
    admin::NodeConfig {
        node_id: "n1".into(),
        environment: "default".into(),
        keys: Some(namespace(7)),
        config: Some(namespace(8)),
        key_count: 1,
        quarantined_count: 2,
        route_count: 3,
        upstream_count: 4,
        plan_count: 5,
        default_rate_limit: 100,
        document: Some(admin::Config {
            environment: "default".into(),
            upstreams: vec![upstream()],
            routes: vec![route()],
            plans: vec![plan()],
        }),
    }
}

fn digest() -> Vec<u8> {
    (0..16).collect()
}

fn time() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1_795_000_000, nanos: 5_000_000 }
}
