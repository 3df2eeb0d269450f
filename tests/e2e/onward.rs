//! Audit events onward: what sinks have when they, nodes and the control plane come and go.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::Value;

use super::spool::{Clients, ids_in_log, open_route, shipped};
use crate::support::{Collector, Gate, Nats, Node, Upstream, eventually, is_long};

/// Waits until a sink has all there is.
async fn delivered(node: &Node, sink: &str) {
    let waiting = format!("fastgate_audit_sink_waiting{{sink=\"{sink}\"}}");
    let began = Instant::now();
    loop {
        // An event is counted a moment after its answer is out.
        let produced = node.metric("fastgate_audit_events_produced_total").await;
        if produced > 0.0 && node.metric(&waiting).await == 0.0 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{sink} does not get its events");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The events of lines, each of which must be JSON.
fn events<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Value> {
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().expect(field)
}

fn name_of(event: &Value) -> (String, u64) {
    (text(event, "boot_id").to_owned(), event["seq"].as_u64().expect("a number"))
}

/// Takes away what came twice; what is left of each boot must be in order.
fn once(events: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut once = Vec::new();
    for event in events {
        let (boot, seq) = name_of(&event);
        if seen.insert((boot.clone(), seq)) {
            let before = last.insert(boot, seq);
            assert!(before.is_none_or(|before| before < seq), "{before:?} before {seq}");
            once.push(event);
        }
    }
    once
}

fn ids(events: &[Value]) -> HashSet<String> {
    events.iter().map(|event| text(event, "request_id").to_owned()).collect()
}

/// All lines of a file and of those put aside, the oldest first.
fn in_files(path: &Path) -> Vec<Value> {
    let name = |number: usize| format!("{}.{number}", path.display());
    let aside = (1..).map(name).take_while(|path| Path::new(path).exists());
    let mut paths: Vec<_> = aside.collect();
    paths.reverse();
    paths.push(path.display().to_string());
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).expect("a file"));
    let texts: Vec<_> = texts.collect();
    events(texts.iter().flat_map(|text| text.lines()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sink_gets_every_event_through_kills_of_the_node_and_of_sinks() {
    let upstream = Upstream::start("up").await;
    let mut nats = Nats::new();
    nats.start().await;
    let mut collector = Collector::new();
    collector.start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.jsonl");
    let headers = folder.path().join("collector-headers");
    std::fs::write(&headers, Collector::HEADER).expect("written");
    let args = [
        format!("--audit-nats={}", nats.url()),
        format!("--audit-otlp={}", collector.url()),
        format!("--audit-otlp-headers={}", headers.display()),
        format!("--audit-file={}", file.display()),
        "--audit-file-size=1MiB".into(),
        "--audit-file-keep=1000".into(),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut gate = Gate::with_nodes(1).with_node_args(&args).alone().start().await;
    open_route(&gate, &upstream).await;
    let dir = gate.dir().to_owned();
    for round in 0..if is_long() { 25 } else { 4 } {
        let clients = Clients::start(&gate.nodes[0], round);
        tokio::time::sleep(Duration::from_millis(400)).await;
        nats.kill();
        collector.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        // The node first, then the sinks: or the other way round.
        if round % 2 == 0 {
            gate.nodes[0].kill();
            nats.start().await;
            collector.start();
        } else {
            nats.start().await;
            collector.start();
            tokio::time::sleep(Duration::from_millis(100)).await;
            gate.nodes[0].kill();
        }
        clients.end().await;
        gate.nodes[0].start(&dir);
        gate.nodes[0].ready().await;
    }
    let node = &gate.nodes[0];
    assert_eq!(node.proxy.get("/").await.status, StatusCode::OK);
    eventually("its event is counted", async || {
        (node.metric("fastgate_audit_events_produced_total").await == 1.0).then_some(())
    })
    .await;
    shipped(node).await;
    delivered(node, "nats").await;
    delivered(node, "file").await;
    delivered(node, "otlp").await;

    let stored = ids_in_log(&gate).await;
    let messages = nats.messages().await;
    let in_nats = events(messages.iter().map(|message| message.payload.as_str()));
    for (event, message) in in_nats.iter().zip(&messages) {
        let (boot, seq) = name_of(event);
        assert_eq!(message.id, format!("{}/{boot}/{seq}", text(event, "node_id")));
    }
    let sent = in_nats.len();
    let in_nats = once(in_nats);
    assert_eq!(in_nats.len(), sent, "the stream has each of them once");
    let lines = in_files(&file);
    let written = lines.len();
    let in_file = once(lines);
    let records = collector.texts(["log.record.uid", "fastgate.request_id"]);
    let taken = records.len();
    let by_uid: BTreeMap<_, _> = records.into_iter().map(|[uid, id]| (uid, id)).collect();
    println!(
        "{} stored, {sent} in NATS, {written} lines in files, {taken} records collected",
        stored.len()
    );
    assert_eq!(ids(&in_nats), stored);
    assert_eq!(ids(&in_file), stored);
    assert_eq!(by_uid.len(), stored.len());
    assert_eq!(by_uid.into_values().collect::<HashSet<_>>(), stored);
    assert_eq!((in_nats.len(), in_file.len()), (stored.len(), stored.len()));

    // One shape: what is exported, and what names an event besides.
    let mut of_node: BTreeMap<_, _> =
        in_nats.iter().map(|event| (text(event, "request_id"), event.clone())).collect();
    let export = gate.admin.get("/admin/logs:export").await;
    let export = String::from_utf8(export.body.to_vec()).expect("text");
    for exported in events(export.lines()) {
        let mut event = of_node.remove(text(&exported, "request_id")).expect("the same event");
        let fields = event.as_object_mut().expect("an object");
        assert!(fields.remove("boot_id").is_some() && fields.remove("seq").is_some());
        assert_eq!(event, exported);
    }
    assert!(of_node.is_empty(), "all are exported");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_away_fills_the_spool_and_then_requests_are_refused() {
    let upstream = Upstream::start("up").await;
    let mut nats = Nats::new();
    let nats_arg = format!("--audit-nats={}", nats.url());
    let args = [&*nats_arg, "--spool-limit=1MiB", "--spool-full=block"];
    let mut gate = Gate::with_nodes(1).with_node_args(&args).start().await;
    open_route(&gate, &upstream).await;
    let client = gate.nodes[0].proxy.clone().with("user-agent", &"x".repeat(500));
    let long = format!("/{}", "x".repeat(2000));
    let mut served = 0;
    while client.get(&long).await.status == StatusCode::OK {
        served += 1;
        assert!(served < 2000, "never full");
    }
    shipped(&gate.nodes[0]).await;
    let away = "fastgate_audit_sink_away{sink=\"nats\"}";
    assert_eq!(gate.nodes[0].metric(away).await, 1.0);
    let waiting = gate.nodes[0].metric("fastgate_audit_sink_waiting{sink=\"nats\"}").await;
    assert_eq!(waiting, served as f64, "the control plane has them all the same");
    nats.start().await;
    eventually("requests are served again", async || {
        (client.get("/").await.status == StatusCode::OK).then_some(())
    })
    .await;
    delivered(&gate.nodes[0], "nats").await;
    assert_eq!(nats.messages().await.len() as u64, upstream.served());
    let log = gate.nodes[0].process().log();
    for told in ["a sink of audit events is away: they wait", "a sink of audit events is back"] {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
    assert!(!log.contains("async_nats"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_store_off_events_go_to_sinks_alone() {
    let upstream = Upstream::start("up").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.jsonl");
    let file_arg = format!("--audit-file={}", file.display());
    let gate = Gate::with_nodes(1).with_node_args(&["--audit-store=off", &file_arg]).start().await;
    open_route(&gate, &upstream).await;
    let hostile = gate.nodes[0].proxy.clone().with("user-agent", "a\"\u{9b}31m\u{202e}b");
    for _ in 0..20 {
        assert_eq!(hostile.get("/a%0d%0ab").await.status, StatusCode::OK);
    }
    shipped(&gate.nodes[0]).await;
    let lines = in_files(&file);
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().all(|line| line["path"] == "/a%0d%0ab"), "{lines:?}");
    assert_eq!(gate.all_logs_by(10).await.len(), 0);
    let stored = gate.nodes[0].metric("fastgate_audit_events_stored_total").await;
    assert_eq!(stored, 20.0, "produced = stored + spooled + dropped");
}
