//! Several control planes on one database.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Client, Gate, Upstream, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_control_planes_share_a_limit() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_redis().start().await;
    let replica = gate.start_replica().await;
    gate.add_node(&replica).await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let limited = json!({"source_path": "app", "rate_limit": 60});
    let (_, probe) = gate.key(limited.clone()).await;
    let (_, secret) = gate.key(limited).await;
    gate.settle().await;
    for admin in [&gate.admin, &replica.admin] {
        eventually("both nodes are listed", async || {
            (connected(admin).await == ["node-1", "node-2"]).then_some(())
        })
        .await;
    }

    gate.redis.as_mut().expect("runs").kill();
    for node in &gate.nodes {
        let client = node.with_key(&probe);
        eventually("the node knows that it is one of two", async || {
            let policy = client.get("/").await.header("ratelimit-policy").to_owned();
            policy.contains("q=30;").then_some(())
        })
        .await;
        let client = node.with_key(&secret);
        let mut admitted = 0;
        for _ in 0..60 {
            admitted += u32::from(client.get("/").await.status == StatusCode::OK);
        }
        println!("admitted by one of two nodes of a limit of 60: {admitted}");
        assert!((30..=35).contains(&admitted), "{admitted}");
    }

    gate.nodes[1].kill();
    eventually("the other control plane hears that the node went", async || {
        (connected(&gate.admin).await == ["node-1"]).then_some(())
    })
    .await;
}

async fn connected(admin: &Client) -> Vec<String> {
    let listed = admin.json(Method::GET, "/admin/nodes", json!({})).await;
    let nodes = listed["nodes"].as_array().expect("nodes").iter();
    let connected = nodes.filter(|node| node["connected"] == true);
    connected.map(|node| node["node_id"].as_str().expect("an id").to_owned()).collect()
}
