//! Nodes join with a token once, then show a certificate, and read their own environment alone.

mod foreign;
mod lives;
mod refusals;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Gate, Node, Upstream, eventually, run_ok};

/// What `openssl x509` says of the certificate a node has.
fn x509(node: &Node, asked: &[&str]) -> String {
    let file = node.state_dir.join("identity.pem");
    run_ok(Command::new("openssl").args(["x509", "-noout", "-in"]).arg(file).args(asked))
}

async fn is_connected(node: &Node) -> bool {
    node.metric("fastgate_control_plane_connected").await == 1.0
}

/// A route that anybody may take, on every node.
async fn open_route(gate: &Gate, path: &str, upstream: &Upstream) {
    let route = json!({
        "path_prefix": path, "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
}

async fn serves(node: &Node, path: &str) {
    let answer = node.proxy.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
}

fn listed(gate: &Gate, node_id: &str) -> Value {
    let nodes = gate.fgctl_json(&["nodes", "list"]);
    let mut nodes = nodes["nodes"].as_array().expect("nodes").iter();
    nodes.find(|node| node["node_id"] == node_id).expect("is listed").clone()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_once_and_starts_again_without_a_token() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    open_route(&gate, "/a", &upstream).await;
    serves(&gate.nodes[0], "/a").await;
    gate.logs(1).await;

    let (ca, node) = (gate.ca_dir(), &gate.nodes[0]);
    assert_eq!(mode(&node.state_dir.join("identity.pem")), 0o600);
    assert_eq!(mode(&ca.join("ca-key.pem")), 0o600);
    let text = x509(node, &["-text"]);
    for said in [
        "URI:spiffe://fastgate/environment/default/node/node-1",
        "TLS Web Client Authentication",
        "CA:FALSE",
        "Digital Signature",
        "prime256v1",
    ] {
        assert!(text.contains(said), "{said} in:\n{text}");
    }
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]);
    verify.arg(ca.join("ca.pem")).arg(node.state_dir.join("identity.pem"));
    assert!(run_ok(&mut verify).contains("OK"));

    let ends =
        listed(&gate, "node-1")["certificate_expires_at"].as_str().expect("a time").to_owned();
    assert!(node.metric("fastgate_certificate_seconds_left").await > 29.0 * 86_400.0, "{ends}");
    let tokens = gate.fgctl_json(&["nodes", "tokens", "list"]);
    assert_eq!(tokens["join_tokens"], json!([]), "it was used");

    let serial = x509(node, &["-serial"]);
    std::fs::remove_file(&node.token_file).expect("removes");
    gate.nodes[0].kill();
    let dir = gate.dir().to_owned();
    gate.nodes[0].start(&dir);
    gate.nodes[0].ready().await;
    open_route(&gate, "/b", &upstream).await;
    serves(&gate.nodes[0], "/b").await;
    gate.logs(2).await;
    assert_eq!(x509(&gate.nodes[0], &["-serial"]), serial);
    assert!(!gate.dump().contains("PRIVATE KEY"), "no key is in the database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_out_in_two_seconds_everywhere_and_serves_on() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let replica = gate.start_replica().await;
    gate.add_node(&replica).await;
    open_route(&gate, "/a", &upstream).await;
    // A stream that lasted has its end told; of one that breaks at once only the first try is.
    tokio::time::sleep(Duration::from_secs(6)).await;

    // The one at the other control plane, and its neighbour stays.
    let revoked = Instant::now();
    let out = gate.fgctl(&["nodes", "revoke", "node-2"]);
    assert!(out.status.success(), "{out:?}");
    eventually("its streams have ended", async || {
        (!is_connected(&gate.nodes[1]).await).then_some(())
    })
    .await;
    let took = revoked.elapsed();
    println!("revocation at one control plane to the end of the streams at another: {took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");
    eventually("it says why", async || {
        gate.nodes[1].process().log().contains("was revoked").then_some(())
    })
    .await;
    assert!(is_connected(&gate.nodes[0]).await);
    serves(&gate.nodes[1], "/a").await;

    let route = json!({"path_prefix": "/b", "targets": [{"url": upstream.url}]});
    gate.admin.json(Method::POST, "/admin/routes", route).await;
    eventually("the other has the next change", async || {
        let answer = gate.nodes[0].proxy.get("/b").await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gate.nodes[1].proxy.get("/b").await.status, StatusCode::NOT_FOUND);

    // A new token in the file is enough.
    let token = gate.join_token(&["--node-id", "node-2"]);
    std::fs::write(&gate.nodes[1].token_file, token).expect("writes");
    eventually("it is back", async || is_connected(&gate.nodes[1]).await.then_some(())).await;
    gate.settle().await;
    assert_eq!(gate.nodes[1].proxy.get("/b").await.status, StatusCode::UNAUTHORIZED);
    let events = gate.admin.get("/admin/events?environment=default").await.json();
    let actions: Vec<_> = events["events"].as_array().expect("events").iter().collect();
    for action in ["NodeService/RevokeNode", "NodeService/CreateJoinToken", "NodeIdentity/Join"] {
        let is_it =
            |event: &&&Value| event["action"].as_str().is_some_and(|it| it.ends_with(action));
        assert!(actions.iter().any(|event| is_it(&event)), "{action}: {events}");
    }
}
