//! Nodes that do not read what they are sent.

use std::time::{Duration, Instant};

use fastgate::node::v1::{
    Hello, NodeMessage, config_stream_client::ConfigStreamClient, node_message::Body,
};
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde_json::json;
use tonic::transport::Endpoint;

use crate::support::{Gate, Upstream};

const STREAMS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_does_not_read_costs_little_and_holds_up_nobody() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (key_id, secret) = gate.key(json!({"source_path": "app"})).await;
    let target = |n: usize| json!({"url": format!("{}/{n}/{}", upstream.url, "x".repeat(1000))});
    let targets: Vec<_> = (0..64).map(target).collect();
    let unused = |n: usize| json!({"upstream_id": format!("up{n}"), "targets": targets});
    let document = json!({"upstreams": (0..150).map(unused).collect::<Vec<_>>()});
    gate.admin.json(Method::POST, "/admin/config/apply", document).await;
    gate.settle().await;

    let before = gate.control_plane().peak_memory();
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        streams.push(open(&gate.node_url(), n).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = gate.control_plane().peak_memory();
    println!("{STREAMS} streams of 10 MB that nobody reads: {before} MiB before, {after} after");
    assert!(after - before < 150, "{before} MiB before, {after} after");

    let client = gate.nodes[0].with_key(&secret);
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    gate.admin.json(Method::POST, &format!("/admin/keys/{key_id}/revoke"), json!({})).await;
    let revoked = Instant::now();
    while client.get("/").await.status != StatusCode::UNAUTHORIZED {}
    println!("revoked within {:?}", revoked.elapsed());
    assert!(revoked.elapsed() < Duration::from_millis(250), "{:?}", revoked.elapsed());
}

/// A stream that is held and never read.
async fn open(node_url: &str, n: usize) -> impl Sized + use<> {
    let endpoint = Endpoint::from_shared(node_url.to_owned()).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let channel = endpoint.connect().await.expect("connects");
    let hello = Hello {
        node_id: format!("slow-{n}"),
        boot_id: "boot".into(),
        version: "0".into(),
        environment: "default".into(),
        ..Hello::default()
    };
    let hello = NodeMessage { body: Some(Body::Hello(hello)) };
    let said = stream::iter([hello]).chain(stream::pending());
    ConfigStreamClient::new(channel).sync(said).await.expect("a stream").into_inner()
}
