//! Several control planes on one database.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Client, Gate, Upstream, eventually, is_long};

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

/// A replica that has lost the database knows of no revocation any more, and another one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_leave_a_control_plane_that_has_lost_the_database() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(0).start().await;
    let replica = gate.start_replica().await;
    gate.add_node_of_both(&replica).await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (key_id, secret) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    let client = gate.nodes[0].with_key(&secret);
    assert_eq!(client.get("/").await.status, StatusCode::OK);

    replica.wire.cut();
    let revoke = format!("/admin/keys/{key_id}/revoke");
    gate.admin.json(Method::POST, &revoke, json!({})).await;
    let began = Instant::now();
    eventually("the node hears of the revocation", async || {
        (client.get("/").await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    println!("the node heard of it elsewhere after {:?}", began.elapsed());
}

async fn connected(admin: &Client) -> Vec<String> {
    let listed = admin.json(Method::GET, "/admin/nodes", json!({})).await;
    let nodes = listed["nodes"].as_array().expect("nodes").iter();
    let connected = nodes.filter(|node| node["connected"] == true);
    connected.map(|node| node["node_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_write_to_two_control_planes_is_the_same_on_every_node() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).alone().start().await;
    let replica = gate.start_replica().await;
    gate.add_node(&replica).await;
    gate.add_node(&replica).await;
    let shared =
        json!({"route_id": "shared", "path_prefix": "/shared", "targets": [{"url": upstream.url}]});
    gate.route(shared).await;
    let (_, secret) = gate.key(json!({"source_path": "app", "rate_limit": 100_000})).await;

    let until = Instant::now() + Duration::from_secs(if is_long() { 60 } else { 5 });
    let writers = (0..16).map(|number| {
        let admin = [&gate.admin, &replica.admin][number % 2].clone();
        let writer = Writer { admin, number, upstream: upstream.url.clone(), seed: number as u64 };
        tokio::spawn(writer.write(until))
    });
    let mut written = Written::default();
    for writer in writers.collect::<Vec<_>>() {
        let one = writer.await.expect("no panic");
        written.keys.extend(one.keys);
        written.routes.extend(one.routes);
        written.changes += one.changes;
    }
    gate.settle().await;

    for admin in [&gate.admin, &replica.admin] {
        let metrics = String::from_utf8(admin.get("/metrics").await.body.to_vec()).expect("text");
        assert!(metrics.contains("\nfastgate_feed_digest_mismatches_total 0\n"), "{metrics}");
        // Of the other one's nodes it hears every two seconds.
        eventually("no node lags", async || {
            let listed = admin.json(Method::GET, "/admin/nodes", json!({})).await;
            let mut nodes = listed["nodes"].as_array().expect("nodes").iter();
            let lags = |node: &Value| node["keys_lag"] != 0 || node["config_lag"] != 0;
            (!nodes.any(lags)).then_some(())
        })
        .await;
    }
    for node in &gate.nodes {
        for (secret, is_active) in written.keys.iter().rev().take(200) {
            let status = node.with_key(secret).get("/shared").await.status;
            assert_eq!(status == StatusCode::OK, *is_active, "{status} at {}", node.name());
        }
        let client = node.with_key(&secret);
        for (path, is_there) in &written.routes {
            let status = client.get(path).await.status;
            let expected = if *is_there { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(status, expected, "{path} at {}", node.name());
        }
    }
    let (keys, config) = gate.revisions().await;
    println!(
        "{} changes by 16 writers: revisions {keys} of keys, {config} of config",
        written.changes
    );
}

/// Someone who changes keys and routes of their own, and a route that others change too.
struct Writer {
    admin: Client,
    number: usize,
    upstream: String,
    seed: u64,
}

/// What is there after all that was written.
#[derive(Default)]
struct Written {
    changes: usize,
    /// Secrets, and whether they open anything.
    keys: Vec<(String, bool)>,
    /// Paths, and whether a route matches them.
    routes: Vec<(String, bool)>,
}

impl Writer {
    async fn write(mut self, until: Instant) -> Written {
        let mut written = Written::default();
        let mut ids: Vec<Option<String>> = Vec::new();
        while Instant::now() < until {
            match (self.draw(6), self.draw(ids.len().max(1))) {
                (1, at) if let Some(Some(id)) = ids.get(at) => {
                    written.keys[at].1 = !written.keys[at].1;
                    let body = json!({"is_active": written.keys[at].1});
                    self.admin.json(Method::PUT, &format!("/admin/keys/{id}"), body).await;
                }
                (2, at) if let Some(Some(id)) = ids.get(at) => {
                    self.admin.json(Method::DELETE, &format!("/admin/keys/{id}"), json!({})).await;
                    (ids[at], written.keys[at].1) = (None, false);
                }
                (3, _) => {
                    let path = format!("/of-{}-{}", self.number, written.routes.len());
                    let route = json!({"route_id": path[1..], "path": path, "targets": [{"url": self.upstream}]});
                    self.admin.json(Method::POST, "/admin/routes", route).await;
                    written.routes.push((path, true));
                }
                (4, _) if let Some((path, true)) = written.routes.last() => {
                    self.admin
                        .json(Method::DELETE, &format!("/admin/routes{path}"), json!({}))
                        .await;
                    written.routes.last_mut().expect("there").1 = false;
                }
                (5, timeout) => {
                    let body = json!({"timeout": timeout + 1, "path_prefix": "/shared"});
                    self.admin.json(Method::PUT, "/admin/routes/shared", body).await;
                }
                _ => {
                    let body = json!({"source_path": format!("app-{}", self.number)});
                    let key = self.admin.json(Method::POST, "/admin/keys", body).await;
                    let text = |field: &str| key[field].as_str().expect(field).to_owned();
                    ids.push(Some(text("key_id")));
                    written.keys.push((text("key_value"), true));
                }
            }
            written.changes += 1;
        }
        written
    }

    /// A number below `bound`, the next of a fixed sequence.
    fn draw(&mut self, bound: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % bound
    }
}
