//! What others make of the node port: `openssl`, `curl`, and a client with the certificate of a node that
//! asks for what is not its own.

use std::{path::Path, process::Command, time::Duration};

use fastgate::node::v1::{
    Batch, Hello, IssuedCertificate, JoinRequest, NodeMessage, TailReport, TailingNode,
    UsagePeriod, UsageQuery, audit_ingest_client::AuditIngestClient,
    audit_query_client::AuditQueryClient, audit_tail_client::AuditTailClient,
    config_stream_client::ConfigStreamClient, node_message::Body,
};
use http::{Method, uri::PathAndQuery};
use serde_json::json;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use tonic_prost::ProstCodec;

use crate::support::{Gate, Node, run};

/// A connection that shows the certificate of a node, or none.
async fn connect(gate: &Gate, node: Option<&Node>) -> Channel {
    let read = |path: &Path| std::fs::read_to_string(path).expect("reads");
    let ca = read(&gate.ca_dir().join("ca.pem"));
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    if let Some(node) = node {
        let own = read(&node.state_dir.join("identity.pem"));
        tls = tls.identity(Identity::from_pem(&own, &own));
    }
    let endpoint = Endpoint::from_shared(gate.node_url()).expect("a URL");
    endpoint.tls_config(tls).expect("TLS").connect().await.expect("connects")
}

/// What each of the services that speak of an environment says to a node of that name.
async fn answers(channel: &Channel, environment: &str, node_id: &str) -> Vec<(&'static str, Code)> {
    let code = |answer: Option<Status>| answer.map_or(Code::Ok, |status| status.code());
    let (environment, node_id) = (environment.to_owned(), node_id.to_owned());
    let hello = Hello {
        environment: environment.clone(),
        node_id: node_id.clone(),
        boot_id: "b1".into(),
        version: "1".into(),
        ..Hello::default()
    };
    let hello = NodeMessage { body: Some(Body::Hello(hello)) };
    let sent = tokio_stream::once(hello).chain(tokio_stream::pending());
    let config = match ConfigStreamClient::new(channel.clone()).sync(sent).await {
        Ok(stream) => refusal(stream.into_inner()).await,
        Err(status) => Some(status),
    };
    let batch = Batch {
        environment: environment.clone(),
        node_id: node_id.clone(),
        boot_id: "b1".into(),
        events: vec![Default::default()],
        ..Batch::default()
    };
    let sent = tokio_stream::once(batch).chain(tokio_stream::pending());
    let ingest = match AuditIngestClient::new(channel.clone()).push(sent).await {
        Ok(stream) => refusal(stream.into_inner()).await,
        Err(status) => Some(status),
    };
    let node = TailingNode { environment: environment.clone(), node_id };
    let report = TailReport { node: Some(node), ..TailReport::default() };
    let sent = tokio_stream::once(report).chain(tokio_stream::pending());
    let tail = match AuditTailClient::new(channel.clone()).follow(sent).await {
        Ok(stream) => refusal(stream.into_inner()).await,
        Err(status) => Some(status),
    };
    let query =
        UsageQuery { environment, period: UsagePeriod::Day.into(), ..UsageQuery::default() };
    let usage = AuditQueryClient::new(channel.clone()).count_usage(query).await.err();
    vec![
        ("config", code(config)),
        ("ingest", code(ingest)),
        ("tail", code(tail)),
        ("usage", code(usage)),
    ]
}

/// Why a stream ended. One that goes on is none.
async fn refusal<T>(mut stream: Streaming<T>) -> Option<Status> {
    timeout(Duration::from_secs(3), stream.message()).await.ok()?.err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_reads_its_own_environment_alone() {
    let gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let staging = json!({"environment": "staging"});
    gate.admin.json(Method::POST, "/admin/environments", staging).await;
    let all = |code| ["config", "ingest", "tail", "usage"].map(|service| (service, code)).to_vec();
    let node = connect(&gate, Some(&gate.nodes[0])).await;
    assert_eq!(answers(&node, "default", "node-1").await, all(Code::Ok));
    assert_eq!(answers(&node, "staging", "node-1").await, all(Code::PermissionDenied));
    let mut other_node = all(Code::PermissionDenied);
    other_node[3] = ("usage", Code::Ok);
    assert_eq!(answers(&node, "default", "node-2").await, other_node);
    let stranger = connect(&gate, None).await;
    assert_eq!(answers(&stranger, "default", "node-1").await, all(Code::Unauthenticated));
}

/// Whoever may only join may make no more of it: neither a call without an end, nor as many connections as
/// there are places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_never_end_their_joins_keep_no_place() {
    let gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let joins = async |count: usize| {
        let mut joins = Vec::new();
        for _ in 0..count {
            let mut client = Grpc::new(connect(&gate, None).await);
            joins.push(tokio::spawn(async move {
                client.ready().await.map_err(|fault| Status::unknown(fault.to_string()))?;
                let path = PathAndQuery::from_static("/fastgate.node.v1.NodeIdentity/Join");
                let codec = ProstCodec::<JoinRequest, IssuedCertificate>::default();
                let endless = Request::new(tokio_stream::pending());
                client.client_streaming(endless, path, codec).await.map(drop)
            }));
        }
        joins
    };
    let first = joins(1).await.remove(0);
    // As many as may be there that nobody knows.
    let others = joins(256).await;
    let lost = timeout(Duration::from_secs(5), first).await.expect("it made room").expect("ends");
    assert_ne!(lost.expect_err("it got no certificate").code(), Code::DeadlineExceeded);
    assert!(super::is_connected(&gate.nodes[0]).await);
    let last = others.into_iter().last().expect("one");
    let told = timeout(Duration::from_secs(15), last).await.expect("in time").expect("ends");
    assert_eq!(told.expect_err("it got no certificate").code(), Code::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_and_curl_get_no_further_than_the_handshake() {
    let gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let address = gate.node_url().replace("https://", "");
    let ca = gate.ca_dir().join("ca.pem");
    let handshake = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-verify_return_error", "-CAfile"]);
        command.arg(&ca).args(args);
        let out = run(command.stdin(std::process::Stdio::null()));
        let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.success(), text)
    };
    let (is_made, text) = handshake(&["-alpn", "h2", "-verify_ip", "127.0.0.1"]);
    assert!(is_made && text.contains("TLSv1.3") && text.contains("Verification: OK"), "{text}");
    assert!(!handshake(&["-tls1_2"]).0, "only TLS 1.3 is spoken");
    assert!(!handshake(&["-verify_hostname", "elsewhere.internal"]).0, "it is of other names");

    let curl = |path: &str, extra: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-i", "--http2-prior-knowledge", "--max-time", "5", "--cacert"]);
        command.arg(&ca).args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        command.args(["--data-binary", "x"]).args(extra).arg(format!("{}{path}", gate.node_url()));
        String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
    };
    let text = curl("/fastgate.node.v1.ConfigStream/Sync", &[]);
    assert!(text.contains("grpc-status: 16") && text.contains("no%20certificate"), "{text}");
    let own = gate.nodes[0].state_dir.join("identity.pem");
    let own = own.to_str().expect("text");
    // With the certificate it is a call, of junk.
    let text = curl("/fastgate.node.v1.AuditQuery/CountUsage", &["--cert", own, "--key", own]);
    assert!(text.contains("grpc-status:") && !text.contains("grpc-status: 16"), "{text}");
    assert!(!curl("/fastgate.node.v1.NodeIdentity/Join", &[]).contains("grpc-status: 16"));
}
