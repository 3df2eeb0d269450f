//! The log as it grows: what every node records is shown at once, and nodes send what is asked for.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Gate, Node, Upstream, eventually};

/// How long after its answer a request may be shown, at most.
const SOON: Duration = Duration::from_millis(300);

/// `fgctl logs tail --follow`, killed when dropped.
struct Tail {
    child: Child,
    lines: Receiver<Value>,
}

impl Tail {
    fn start(gate: &Gate, filters: &[&str]) -> Self {
        let mut command = gate.fgctl_command(&["-o", "json", "logs", "tail", "-n", "0", "-f"]);
        let mut child = command.args(filters).stdout(Stdio::piped()).spawn().expect("starts");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("JSON");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next event, if it comes soon.
    fn next(&self, within: Duration) -> Option<Value> {
        match self.lines.recv_timeout(within) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(fault) => panic!("{fault}"),
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

async fn open_route(gate: &Gate, upstream: &Upstream) {
    let targets = json!([{"url": upstream.url}]);
    gate.route(json!({"path_prefix": "/a", "auth_required": false, "targets": targets})).await;
}

/// Waits until so many tails are served by a node.
async fn tails(node: &Node, count: f64) {
    eventually("the node knows who watches", async || {
        (node.metric("fastgate_audit_tails").await == count).then_some(())
    })
    .await;
}

async fn sent(node: &Node) -> f64 {
    node.metric("fastgate_audit_events_tailed_total").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_what_each_node_answers_at_once() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).alone().start().await;
    open_route(&gate, &upstream).await;
    let all = Tail::start(&gate, &[]);
    let some = Tail::start(&gate, &["--status", "4xx", "--path-prefix", "/none"]);
    for node in &gate.nodes {
        tails(node, 2.0).await;
    }
    let mut longest = Duration::ZERO;
    for round in 0..10 {
        for node in &gate.nodes {
            let id = format!("{}-{round}", node.name());
            let answer = node.proxy.clone().with("x-request-id", &id).get("/a").await;
            let answered = Instant::now();
            assert_eq!(answer.status, StatusCode::OK);
            let shown = all.next(Duration::from_secs(5)).expect("the event");
            longest = longest.max(answered.elapsed());
            assert_eq!(
                (&shown["request_id"], &shown["node_id"]),
                (&json!(id), &json!(node.name()))
            );
        }
    }
    println!("shown at most {longest:?} after its answer");
    assert!(longest < SOON, "{longest:?}");
    assert_eq!(some.next(Duration::ZERO), None);
    // What was shown is not shown again once it is stored and looked up.
    gate.logs(20).await;
    assert_eq!(all.next(Duration::from_millis(1200)), None, "twice");

    drop(all);
    for node in &gate.nodes {
        tails(node, 1.0).await;
        let before = sent(node).await;
        for path in ["/a", "/none/1", "/other", "/a"] {
            node.proxy.get(path).await;
        }
        let shown = some.next(Duration::from_secs(5)).expect("the event");
        assert_eq!((&shown["path"], &shown["status_code"]), (&json!("/none/1"), &json!(404)));
        eventually("all is stored", async || {
            (node.metric("fastgate_audit_events_spooled").await == 0.0).then_some(())
        })
        .await;
        assert_eq!(sent(node).await - before, 1.0, "no node sends what nobody asked for");
    }
    assert_eq!(some.next(Duration::from_millis(1200)), None);

    drop(some);
    for node in &gate.nodes {
        tails(node, 0.0).await;
        let before = sent(node).await;
        node.proxy.get("/a").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sent(node).await, before, "a tail that ended costs nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_nodes_of_other_control_planes_and_those_that_come_back() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).start().await;
    let replica = gate.start_replica().await;
    gate.add_node(&replica).await;
    open_route(&gate, &upstream).await;
    let tail = Tail::start(&gate, &["--path-prefix", "/a"]);
    tails(&gate.nodes[0], 1.0).await;
    let ask = async |node: &Node, id: &str| {
        node.proxy.clone().with("x-request-id", id).get("/a").await;
        let shown = tail.next(Duration::from_secs(5)).expect("the event");
        assert_eq!(shown["request_id"], id);
    };
    ask(&gate.nodes[1], "looked-up").await;
    ask(&gate.nodes[0], "sent").await;
    let dir = gate.dir().to_owned();
    gate.nodes[0].kill();
    gate.nodes[0].start(&dir);
    gate.nodes[0].ready().await;
    ask(&gate.nodes[0], "after-a-start").await;
    tails(&gate.nodes[0], 1.0).await;
    ask(&gate.nodes[0], "sent-again").await;
    assert_eq!(tail.next(Duration::from_millis(1200)), None, "twice");
}
