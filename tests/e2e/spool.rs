//! What becomes of audit events when a node, the control plane or Postgres dies, or the disk is used up.

mod kills;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Gate, Node, Upstream, eventually, is_long};

/// Clients that ask one node, with ids that tell their requests apart.
pub(super) struct Clients {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// The ids of answered requests, and when the answer was there.
    answered: Arc<Mutex<Vec<(String, Instant)>>>,
}

const CLIENTS: u64 = 4;

impl Clients {
    /// They ask as fast as they are answered, until the node is away.
    pub(super) fn start(node: &Node, round: usize) -> Self {
        Self::paced(node, round, Duration::ZERO)
    }

    /// The same, each with a pause behind every answer.
    fn paced(node: &Node, round: usize, pause: Duration) -> Self {
        let mut clients = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            sent: Arc::default(),
            answered: Arc::default(),
        };
        for client in 0..CLIENTS {
            let proxy = node.proxy.clone();
            let (stop, sent) = (clients.stop.clone(), clients.sent.clone());
            let answered = clients.answered.clone();
            clients.tasks.spawn(async move {
                for number in 0.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let id = format!("{round}-{client}-{number}");
                    let proxy = proxy.clone().with("x-request-id", &id);
                    sent.fetch_add(1, SeqCst);
                    match proxy.try_send(Method::GET, "/", "").await {
                        Ok(answer) => {
                            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                            answered.lock().expect("no panic").push((id, Instant::now()));
                        }
                        Err(_) => return,
                    }
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
        }
        clients
    }

    /// How many were sent, and what was answered.
    pub(super) async fn end(mut self) -> (u64, Vec<(String, Instant)>) {
        self.stop.store(true, SeqCst);
        while let Some(client) = self.tasks.join_next().await {
            client.expect("every answer is as expected");
        }
        let answered = std::mem::take(&mut *self.answered.lock().expect("no panic"));
        (self.sent.load(SeqCst), answered)
    }
}

pub(super) async fn open_route(gate: &Gate, upstream: &Upstream) {
    let targets = json!([{"url": upstream.url}]);
    gate.route(json!({"path_prefix": "/", "auth_required": false, "targets": targets})).await;
}

/// Waits until all is stored that a node has: its own events, and what earlier starts left. A node
/// waits up to ten seconds before it tries a control plane again that was away for long.
pub(super) async fn shipped(node: &Node) {
    let mut patience = Instant::now() + Duration::from_secs(20);
    let mut least = f64::MAX;
    loop {
        let of = async |name: &str| node.metric(&format!("fastgate_audit_events_{name}")).await;
        let left = of("spooled").await + of("left").await;
        if left == 0.0 {
            return;
        }
        if left < least {
            (least, patience) = (left, Instant::now() + Duration::from_secs(20));
        }
        assert!(Instant::now() < patience, "{left} events are not stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn ids_in_log(gate: &Gate) -> HashSet<String> {
    let logs = gate.all_logs_by(1000).await;
    let ids: HashSet<_> =
        logs.iter().map(|log| log["request_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), logs.len(), "no event twice");
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_loses_the_last_50_ms_at_most_and_counts_them() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).alone().start().await;
    open_route(&gate, &upstream).await;
    let dir = gate.dir().to_owned();
    let (mut sent, mut answered, mut produced, mut lost) = (0, 0, 0, 0.0);
    let mut must_be_there = Vec::new();
    for round in 0..if is_long() { 50 } else { 5 } {
        let clients = Clients::start(&gate.nodes[0], round);
        // At no moment of a tick in particular.
        tokio::time::sleep(Duration::from_millis(300 + 37 * round as u64 % 101)).await;
        let killed_at = Instant::now();
        gate.nodes[0].kill();
        produced += produced_by_the_dead(&gate.nodes[0]);
        let (sent_now, answered_now) = clients.end().await;
        (sent, answered) = (sent + sent_now, answered + answered_now.len() as u64);
        let in_time = Duration::from_millis(50);
        let kept = answered_now.into_iter().filter(|(_, at)| *at + in_time <= killed_at);
        must_be_there.extend(kept.map(|(id, _)| id));
        gate.nodes[0].start(&dir);
        gate.nodes[0].ready().await;
        // Told from when recovery is over, which this node has nothing else to do before.
        assert_eq!(gate.nodes[0].proxy.get("/").await.status, StatusCode::OK);
        (sent, answered) = (sent + 1, answered + 1);
        eventually("its own event is stored", async || {
            let stored = gate.nodes[0].metric("fastgate_audit_events_stored_total").await;
            (stored == 1.0).then_some(())
        })
        .await;
        lost += gate.nodes[0].metric("fastgate_audit_events_lost_total{reason=\"killed\"}").await;
    }
    shipped(&gate.nodes[0]).await;
    produced += gate.nodes[0].metric("fastgate_audit_events_produced_total").await as u64;
    let ids = ids_in_log(&gate).await;
    let missing: Vec<_> = must_be_there.iter().filter(|id| !ids.contains(*id)).collect();
    println!(
        "{sent} sent, {answered} answered, {produced} recorded, {} stored, {lost} counted as killed",
        ids.len()
    );
    assert_eq!(missing, [""; 0], "answered more than 50 ms before the kill");
    assert_eq!(ids.len() as u64 + lost as u64, produced, "counted exactly");
    assert!(produced <= sent);
}

/// How many events the workers of a node had counted that was killed.
fn produced_by_the_dead(node: &Node) -> u64 {
    let files = std::fs::read_dir(node.state_dir.join("audit")).expect("a spool");
    let files = files.map(|entry| entry.expect("an entry").path());
    let counts = files.filter(|path| path.extension().is_some_and(|it| it == "counts"));
    let counts: Vec<_> = counts.map(|path| std::fs::read(path).expect("counts")).collect();
    assert_eq!(counts.len(), 1, "of the last boot alone");
    let first = |row: &[u8]| u64::from_ne_bytes(row[..8].try_into().expect("8 bytes"));
    // A row of a worker has 128 bytes, and its first number is of the events produced.
    counts[0].chunks(128).map(first).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_control_plane_and_postgres_loses_no_event_and_takes_no_memory() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_own_postgres().alone().start().await;
    open_route(&gate, &upstream).await;
    let idle = gate.nodes[0].process().peak_memory();
    gate.kill_control_plane();
    gate.postgres().kill();
    // In ten minutes no more than the spool may take.
    let clients = Clients::paced(&gate.nodes[0], 0, Duration::from_millis(2));
    tokio::time::sleep(Duration::from_secs(if is_long() { 600 } else { 5 })).await;
    let in_spool = gate.nodes[0].metric("fastgate_audit_spool_bytes").await;
    assert!(in_spool > 0.0);
    gate.postgres().restart();
    gate.start_control_plane().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (sent, answered) = clients.end().await;
    assert_eq!(sent, answered.len() as u64, "every request was answered");
    shipped(&gate.nodes[0]).await;
    let ids = ids_in_log(&gate).await;
    let more = gate.nodes[0].process().peak_memory() - idle;
    println!("{sent} requests, {} stored, {in_spool} bytes spooled, {more} MiB more", ids.len());
    assert_eq!(ids, answered.into_iter().map(|(id, _)| id).collect());
    assert!(more <= 64, "{more} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_refuses_requests_until_it_is_stored() {
    let upstream = Upstream::start("up").await;
    let args = ["--spool-limit=1MiB", "--spool-full=block"];
    let mut gate = Gate::with_nodes(1).with_node_args(&args).start().await;
    open_route(&gate, &upstream).await;
    gate.kill_control_plane();
    let client = gate.nodes[0].proxy.clone().with("user-agent", &"x".repeat(500));
    let long = format!("/{}", "x".repeat(2000));
    let (mut served, mut refused) = (0, None);
    while refused.is_none() {
        let answer = client.get(&long).await;
        match answer.status {
            StatusCode::OK => served += 1,
            _ => refused = Some(answer),
        }
        assert!(served < 2000, "never full");
    }
    let refused = refused.expect("an answer");
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let detail = &refused.json()["detail"];
    assert_eq!(detail, "the gateway can't record requests at the moment");
    assert_eq!(upstream.served(), served, "what is not recorded is not forwarded");
    let log = gate.nodes[0].process().log();
    assert!(log.contains("the audit spool takes no events: requests are refused"), "{log}");
    assert!(log.contains("the audit spool is above 90 %"), "{log}");
    let ready = gate.nodes[0].ops.get("/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let reason = &ready.json()["reason"];
    assert!(reason.as_str().is_some_and(|why| why.contains("audit spool")), "{reason}");
    assert_eq!(gate.nodes[0].metric("fastgate_audit_spool_full").await, 1.0);

    gate.start_control_plane().await;
    eventually("requests are served again", async || {
        (client.get("/").await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(gate.nodes[0].ops.get("/ready").await.status, StatusCode::OK);
    shipped(&gate.nodes[0]).await;
    let count = async |name: &str| {
        gate.nodes[0].metric(&format!("fastgate_audit_events_{name}_total")).await
    };
    let (produced, stored, dropped) =
        (count("produced").await, count("stored").await, count("dropped").await);
    println!(
        "{served} requests filled 1 MiB; produced, stored, dropped: {produced} {stored} {dropped}"
    );
    assert_eq!((produced, stored), (stored + dropped, upstream.served() as f64));
    assert_eq!(gate.all_logs_by(1000).await.len() as u64, upstream.served());
    let listed = gate.fgctl_json(&["nodes", "list"]);
    assert_eq!(listed["nodes"][0]["spool_limit"], json!(1 << 20), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_requests_until_what_is_on_it_is_stored() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_node_disk("4m").start().await;
    open_route(&gate, &upstream).await;
    let client = gate.nodes[0].proxy.clone().with("user-agent", &"x".repeat(500));
    let long = format!("/{}", "x".repeat(2000));
    for round in 0..3 {
        gate.kill_control_plane();
        let mut served = 0;
        while client.get(&long).await.status == StatusCode::OK {
            served += 1;
            assert!(served < 3000, "never full");
        }
        assert!(served > 500, "round {round}: {served}");
        assert_eq!(gate.nodes[0].metric("fastgate_audit_spool_full").await, 1.0);
        gate.start_control_plane().await;
        eventually("requests are served again", async || {
            (client.get("/").await.status == StatusCode::OK).then_some(())
        })
        .await;
    }
    // With everything stored a moment later, more passes than the disk holds.
    let mut served = 0;
    while served < 3000 {
        match client.get(&long).await.status {
            StatusCode::OK => served += 1,
            refused => {
                assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    shipped(&gate.nodes[0]).await;
    assert_eq!(gate.all_logs_by(1000).await.len() as u64, upstream.served());
    let log = gate.nodes[0].process().log();
    assert!(log.contains("the audit spool can't be written"), "{log}");
}
