//! Config that kills a node, or makes its requests panic, is put aside; the node says so, and goes on.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Gate, Node, Upstream, eventually};

/// What the data plane takes for a route that kills, in builds for tests.
const HOOK: &str = "FASTGATE_TEST_FATAL_ROUTE";

/// Longer than it takes until config counts as lived with.
const LIVED: Duration = Duration::from_millis(1500);

fn open_route(id: &str, upstream: &Upstream) -> Value {
    let targets = json!([{"url": upstream.url}]);
    json!({"route_id": id, "path_prefix": format!("/{id}"), "auth_required": false, "targets": targets})
}

async fn post(gate: &Gate, route: Value) {
    gate.admin.json(Method::POST, "/admin/routes", route).await;
}

async fn status(node: &Node, path: &str) -> StatusCode {
    node.proxy.get(path).await.status
}

fn listed(gate: &Gate) -> Value {
    gate.fgctl_json(&["nodes", "list"])["nodes"][0].clone()
}

/// What `/ready` says of config that is not in force.
async fn refused(node: &Node) -> Option<String> {
    let answer = node.ops.get("/ready").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["config_refused"].as_str().map(str::to_owned)
}

/// A gateway with one node that serves `/good`, and for a while.
async fn gate(hook: &str, upstream: &Upstream) -> Gate {
    let gate = Gate::with_nodes(1).with_node_variable(HOOK, hook).start().await;
    gate.route(open_route("good", upstream)).await;
    gate.nodes[0].has_on_disk("config", "/good").await;
    tokio::time::sleep(LIVED).await;
    gate
}

/// The node serves what it had, and everyone is told why.
async fn is_told(gate: &Gate, why: &str) {
    let node = &gate.nodes[0];
    assert_eq!(status(node, "/good").await, StatusCode::OK);
    assert_eq!(status(node, "/poison").await, StatusCode::NOT_FOUND);
    eventually("the node says why", async || refused(node).await.filter(|told| told.contains(why)))
        .await;
    eventually("fgctl says why", async || {
        let node = listed(gate);
        node["last_nack"].as_str().expect("text").contains(why).then_some(())
    })
    .await;
}

/// What comes later is taken, and nothing is held against the node any more.
async fn goes_on(gate: &Gate, upstream: &Upstream) {
    gate.admin.send(Method::DELETE, "/admin/routes/poison", "").await;
    gate.route(open_route("mended", upstream)).await;
    let node = &gate.nodes[0];
    assert_eq!(status(node, "/mended").await, StatusCode::OK);
    assert_eq!(status(node, "/good").await, StatusCode::OK);
    assert_eq!(refused(node).await, None);
    assert_eq!(listed(gate)["refusal"], Value::Null);
}

async fn dies_twice(hook: &str) {
    let upstream = Upstream::start("up").await;
    let mut gate = gate(hook, &upstream).await;
    post(&gate, open_route("poison", &upstream)).await;
    let dir = gate.dir().to_owned();
    for death in 1..=2 {
        gate.nodes[0].has_ended().await;
        println!("{hook}: death {death}");
        gate.nodes[0].start(&dir);
    }
    gate.nodes[0].ready().await;
    eventually("it refuses what killed it", async || refused(&gate.nodes[0]).await).await;
    is_told(&gate, "died").await;
    tokio::time::sleep(LIVED).await;
    assert!(!gate.nodes[0].process().has_ended());
    goes_on(&gate, &upstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_that_two_starts_died_of_is_put_aside_by_the_third() {
    dies_twice("abort@taken:poison").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_config_is_taken_ends_the_process_and_counts_as_a_death() {
    dies_twice("panic@taken:poison").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_that_makes_requests_panic_is_taken_back_without_a_death() {
    let upstream = Upstream::start("up").await;
    let mut gate = gate("panic@asked:poison", &upstream).await;
    gate.route(open_route("poison", &upstream)).await;
    let (_, poisoned) = gate.revisions().await;
    let node = &gate.nodes[0];
    for _ in 0..2 {
        let fault = node.proxy.try_send(Method::GET, "/poison", "").await;
        assert!(fault.is_err(), "its connection broke: {fault:?}");
    }
    eventually("it went back", async || {
        let at = node.metric("fastgate_config_revision{namespace=\"config\"}").await;
        (at < poisoned as f64).then_some(())
    })
    .await;
    is_told(&gate, "two requests made the node panic").await;
    assert!(!gate.nodes[0].process().has_ended());

    // A start of its own accord does not forget it.
    gate.nodes[0].process().signal("TERM");
    gate.nodes[0].has_ended().await;
    let dir = gate.dir().to_owned();
    gate.nodes[0].start(&dir);
    gate.nodes[0].ready().await;
    assert_eq!(status(&gate.nodes[0], "/poison").await, StatusCode::NOT_FOUND);
    goes_on(&gate, &upstream).await;
}
