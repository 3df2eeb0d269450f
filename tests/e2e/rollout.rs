//! A change of the config goes from ring to ring, and back when something is wrong with it.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Client, Gate, Node, Upstream, eventually};

/// Seconds each ring is watched. A node tells of its requests every two seconds.
const HOLD: &str = "2";

/// Three nodes, each a ring of its own, which send `/x` to `old`.
async fn three_rings(old: &Upstream) -> (Gate, String) {
    let gate = Gate::with_nodes(3).with_labels(&["tier=canary", "zone=a", ""]).start().await;
    let route = json!({
        "path_prefix": "/x", "auth_required": false, "targets": [{"url": old.url}],
        "retry_count": 0,
    });
    let route = gate.route(route).await;
    gate.fgctl_json(&[
        "envs",
        "update",
        "default",
        "--rollout-ring",
        "canary=tier=canary",
        "--rollout-ring",
        "a=zone=a",
        "--rollout-ring",
        "rest",
        "--rollout-hold",
        HOLD,
        "--rollout-min-requests",
        "10",
    ]);
    gate.settle().await;
    (gate, route)
}

/// Who answers `/x` on a node.
async fn served_by(node: &Node) -> String {
    let answer = node.proxy.get("/x").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["served_by"].as_str().expect("a name").to_owned()
}

async fn all_served_by(gate: &Gate) -> [String; 3] {
    [0, 1, 2].map(|at| &gate.nodes[at]).map(served_by).join().await
}

/// Three answers at once.
trait Join {
    async fn join(self) -> [String; 3];
}

impl<F: Future<Output = String>> Join for [F; 3] {
    async fn join(self) -> [String; 3] {
        let [one, two, three] = self;
        let (one, two, three) = tokio::join!(one, two, three);
        [one, two, three]
    }
}

/// Sends `/x` elsewhere; the revision that does.
fn send_to(gate: &Gate, route: &str, upstream: &Upstream) {
    gate.fgctl_json(&["routes", "update", route, "--target", &upstream.url]);
}

/// Nothing before the first rollout.
fn status(gate: &Gate) -> Value {
    let told = gate.fgctl(&["-o", "json", "rollout", "status"]);
    serde_json::from_slice(&told.stdout).unwrap_or_default()
}

async fn state_is(gate: &Gate, state: &str) -> Value {
    eventually(state, async || Some(status(gate)).filter(|it| it["state"] == state)).await
}

async fn ring_is(gate: &Gate, ring: &str) {
    eventually(ring, async || (status(gate)["ring"] == ring).then_some(())).await;
}

/// Sends requests to a node until it is told to stop; how many failed.
struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Traffic {
    fn to(node: &Node) -> Self {
        let (stop, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = Client::new(&node.proxy_url);
        let (stopped, failures) = (stop.clone(), failed.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(SeqCst) {
                let answer = client.get("/x").await;
                failures.fetch_add(u64::from(answer.status.is_server_error()), SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, failed, task }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, SeqCst);
        self.task.await.expect("ends");
        self.failed.load(SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_change_goes_from_ring_to_ring() {
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let (gate, route) = three_rings(&old).await;
    assert_eq!(all_served_by(&gate).await, ["old", "old", "old"]);
    let begun = Instant::now();
    send_to(&gate, &route, &new);
    let mut seen = Vec::new();
    while seen.last() != Some(&["new", "new", "new"].map(str::to_owned)) {
        assert!(begun.elapsed() < Duration::from_secs(40), "{seen:?}");
        let now = all_served_by(&gate).await;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let steps = [["old", "old", "old"], ["new", "old", "old"], ["new", "new", "old"]];
    let steps: Vec<_> = steps.into_iter().chain([["new", "new", "new"]]).collect();
    let places: Vec<_> = seen.iter().map(|s| steps.iter().position(|step| s == step)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "{seen:?}");
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "two rings were watched");
    let done = state_is(&gate, "STATE_DONE").await;
    let nodes = |ring: &Value| (ring["nodes"].clone(), ring["nodes_done"].clone());
    let rings: Vec<_> = done["rings"].as_array().expect("rings").iter().map(nodes).collect();
    assert_eq!(rings, vec![(json!(1), json!(1)); 3], "{done}");
    println!("three rings in {:.1} s", begun.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_fails_stops_at_the_first_ring_and_is_taken_back() {
    let old = Upstream::start("old").await;
    let (gate, route) = three_rings(&old).await;
    let before = gate.revisions().await.1;
    let traffic: Vec<_> = gate.nodes.iter().map(Traffic::to).collect();
    let document = gate.dir().join("bad.json");
    let bad = json!({"routes": [{
        "route_id": route, "path_prefix": "/x", "auth_required": false, "retry_count": 0,
        "rewrite": "/status/500", "targets": [{"url": old.url}],
    }]});
    std::fs::write(&document, bad.to_string()).expect("a file");
    let document = document.to_str().expect("text");
    let mut apply = gate.fgctl_command(&["apply", "-f", document, "--wait=60"]);
    let apply = apply.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let applied = tokio::task::spawn_blocking(|| apply.wait_with_output().expect("ends"));

    let rolled_back = state_is(&gate, "STATE_ROLLED_BACK").await;
    let reason = rolled_back["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("ring canary: ") && reason.contains("answered with 5xx"),
        "{reason}"
    );
    assert_eq!(rolled_back["base_revision"], before);
    assert_eq!(rolled_back["target_revision"], before + 1);
    gate.settle().await;
    assert_eq!(gate.revisions().await.1, before + 2, "one change, and what takes it back");
    assert_eq!(all_served_by(&gate).await, ["old", "old", "old"]);
    let mut failed = Vec::new();
    for traffic in traffic {
        failed.push(traffic.end().await);
    }
    println!("failed requests by ring: {failed:?}");
    assert!(failed[0] > 0 && failed[1..] == [0, 0], "{failed:?}");

    let applied = applied.await.expect("ends");
    let told = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert_eq!(applied.status.code(), Some(1), "{told}");
    assert!(told.contains("taken back") && told.contains("answered with 5xx"), "{told}");
    let history = gate.fgctl_json(&["config", "history"]);
    let newest = &history["revisions"][0];
    assert_eq!((&newest["token_id"], &newest["change_count"]), (&json!("rollout"), &json!(1)));
    let events = gate.admin.get("/admin/events?page_size=20").await.json();
    let events = events["events"].as_array().expect("events").iter();
    let mut actions = events.filter_map(|event| event["action"].as_str());
    assert!(actions.any(|action| action.starts_with("stopped: ring canary: ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_paused_resumed_and_undone_and_keys_never_wait() {
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let (gate, route) = three_rings(&old).await;
    let guarded = json!({"path_prefix": "/guarded", "targets": [{"url": old.url}]});
    gate.admin.json(http::Method::POST, "/admin/routes", guarded).await;
    state_is(&gate, "STATE_RUNNING").await;
    for ring in ["a", "rest"] {
        ring_is(&gate, ring).await;
    }
    state_is(&gate, "STATE_DONE").await;

    send_to(&gate, &route, &new);
    state_is(&gate, "STATE_RUNNING").await;
    assert_eq!(gate.fgctl_json(&["rollout", "pause"])["state"], "STATE_PAUSED");
    let twice = gate.fgctl(&["rollout", "pause"]);
    let told = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(!twice.status.success() && told.contains("can't be paused: it is paused"), "{told}");
    eventually("the first ring has it", async || {
        (served_by(&gate.nodes[0]).await == "new").then_some(())
    })
    .await;

    // Keys that come and go meanwhile are in force everywhere at once.
    let (key_id, secret) = gate.key(json!({"source_path": "app"})).await;
    let answers = async |status: StatusCode| {
        for node in &gate.nodes {
            let client = node.with_key(&secret);
            eventually("the key is in force", async || {
                (client.get("/guarded").await.status == status).then_some(())
            })
            .await;
        }
    };
    answers(StatusCode::OK).await;
    gate.fgctl_json(&["keys", "revoke", &key_id]);
    let begun = Instant::now();
    answers(StatusCode::UNAUTHORIZED).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(all_served_by(&gate).await, ["new", "old", "old"], "it is paused");
    assert_eq!(gate.fgctl_json(&["rollout", "resume"])["state"], "STATE_RUNNING");
    eventually("the second ring has it", async || {
        (served_by(&gate.nodes[1]).await == "new").then_some(())
    })
    .await;
    assert_eq!(gate.fgctl_json(&["rollout", "undo"])["state"], "STATE_UNDONE");
    eventually("all are back", async || {
        (all_served_by(&gate).await == ["old", "old", "old"]).then_some(())
    })
    .await;
    assert!(!gate.fgctl(&["rollout", "undo"]).status.success(), "there is nothing left to undo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_outlives_the_control_plane_and_a_new_node_gets_what_its_ring_has() {
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let (mut gate, route) = three_rings(&old).await;
    send_to(&gate, &route, &new);
    eventually("the first ring has it", async || {
        (served_by(&gate.nodes[0]).await == "new").then_some(())
    })
    .await;
    gate.kill_control_plane();

    // It has nothing, and there is nobody in whose memory the config before the change is.
    let dir = gate.dir().to_owned();
    gate.nodes[2].kill();
    std::fs::remove_dir_all(&gate.nodes[2].state_dir).expect("is there");
    gate.nodes[2].start(&dir);
    gate.start_control_plane().await;
    gate.nodes[2].ready().await;
    assert_eq!(served_by(&gate.nodes[2]).await, "old");
    assert_eq!(status(&gate)["state"], "STATE_RUNNING");
    for ring in ["a", "rest"] {
        ring_is(&gate, ring).await;
    }
    state_is(&gate, "STATE_DONE").await;
    assert_eq!(all_served_by(&gate).await, ["new", "new", "new"]);
}
