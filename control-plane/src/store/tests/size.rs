//! How fast events are stored, and how fast they are found among many. It takes minutes, so it is
//! asked for by name:
//!
//! ```text
//! FASTGATE_BENCH_EVENTS=20000000 FASTGATE_BENCH_DATABASE_URL=postgres://... \
//!   cargo test --release -p fastgate-control-plane --lib -- --ignored --nocapture among_many
//! ```
//!
//! Without a URL it is the server of the tests, which syncs nothing to the disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use fastgate::{admin::v1::LogEvent, audit::EventMatch, node::v1::Batch};
use prost::Message as _;

use super::{Postgres, events::is_new, samples::id};
use crate::{
    domain::{EventBatch, EventFilter, MetricsQuery, Step},
    store::{Retention, Store},
};

const NODES: u64 = 4;
const KEYS: u64 = 10_000;
const ROUTES: u64 = 20;
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes, and says how fast things are"]
async fn events_are_stored_and_found_among_many() {
    let events = std::env::var("FASTGATE_BENCH_EVENTS").ok();
    let events = events.and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let url = std::env::var("FASTGATE_BENCH_DATABASE_URL");
    let url = url.unwrap_or_else(|_| Postgres::shared().create_database("among_many"));
    let store = super::open(&url).await;
    let now = SystemTime::now();
    let retention = Retention { events: 30 * DAY, rollups: 400 * DAY, hourly_above: 32 << 30 };
    store.keep(&retention, now).await.expect("keeps");
    if events > 0 {
        fill(&store, now, events).await;
    }
    // What the last minute left, as the control plane does every ten seconds.
    let begun = Instant::now();
    store.roll_up(SystemTime::now() + Duration::from_secs(60)).await.expect("adds up");
    println!("the rest added up in {:?}", begun.elapsed());
    find(&store, SystemTime::now()).await;
    count(&store, SystemTime::now()).await;
}

/// Events as they come, as fast as they are taken, while sums are made of them.
async fn fill(store: &Arc<dyn Store>, now: SystemTime, events: u64) {
    let begun = Instant::now();
    let batches = events / 4096;
    let next = Arc::new(AtomicU64::new(0));
    let boot_id = format!("boot-{:?}", now.duration_since(SystemTime::UNIX_EPOCH));
    let nodes = (0..NODES).map(|node| {
        let (store, next, boot_id) = (store.clone(), next.clone(), boot_id.clone());
        tokio::spawn(async move {
            let mut first_seq = 0;
            loop {
                let at = next.fetch_add(1, Relaxed);
                if at >= batches {
                    return;
                }
                let from = SystemTime::now() - Duration::from_millis(400);
                // As it comes from the wire.
                let wire = batch(node, &boot_id, first_seq, from, at).encode_to_vec();
                let batch = Batch::decode(&wire[..]).expect("a batch");
                let batch = EventBatch {
                    node_id: batch.node_id,
                    boot_id: batch.boot_id,
                    environment: id("default"),
                    first_seq,
                    events: batch.events,
                    counted: batch.counted,
                    gaps: Vec::new(),
                };
                assert!(is_new(&store, &batch).await);
                first_seq += 4096;
            }
        })
    });
    let nodes: Vec<_> = nodes.collect();
    let filled = Arc::new(AtomicBool::new(false));
    let adding_up = tokio::spawn({
        let (store, filled) = (store.clone(), filled.clone());
        async move {
            while !filled.load(Relaxed) {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let begun = Instant::now();
                store.roll_up(SystemTime::now()).await.expect("adds up");
                println!("added up in {:?}", begun.elapsed());
            }
        }
    });
    for node in nodes {
        node.await.expect("stores");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} events in {seconds:.1} s: {:.0}/s",
        batches * 4096,
        (batches * 4096) as f64 / seconds
    );
    filled.store(true, Relaxed);
    adding_up.await.expect("adds up");
}

fn batch(node: u64, boot_id: &str, first_seq: u64, from: SystemTime, seed: u64) -> Batch {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let event = |n: u64| {
        // Half of the traffic is a hundred keys'.
        let key = if draw(2) == 0 { draw(KEYS / 100) } else { draw(KEYS) };
        let route = key % ROUTES;
        let is_bad = draw(50) == 0;
        let ms = 0.5 + draw(1 << 20) as f64 / (1.0 + draw(1 << 20) as f64);
        LogEvent {
            timestamp: Some((from + Duration::from_micros(n * 100)).into()),
            request_id: format!("{:016x}{:016x}", draw(u64::MAX), draw(u64::MAX)),
            key_id: format!("key-{key:028}"),
            source_path: format!("app_{}", key % 50),
            method: "GET".into(),
            path: format!("/api/v1/users/{}/orders/{}", draw(100_000), draw(1000)),
            target_url: format!("http://10.0.{route}.{}:8080", draw(2)),
            status_code: if is_bad { 503 } else { 200 },
            response_time_ms: ms,
            request_size: draw(1000),
            response_size: draw(10_000),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36".into(),
            ip_address: format!("10.1.{}.{}", draw(256), draw(256)),
            environment: "default".into(),
            node_id: format!("node-{node}"),
            route_id: format!("route-{route:02}"),
            upstream_time_ms: ms * 0.9,
            ttfb_ms: ms * 0.95,
            attempts: 1,
            error: if is_bad { "upstream_unavailable".into() } else { String::new() },
            rate_limited: false,
            secret_version: 1,
            response_chunks: 1,
            response_end: "complete".into(),
            ..LogEvent::default()
        }
    };
    Batch {
        node_id: format!("node-{node}"),
        boot_id: boot_id.to_owned(),
        environment: "default".into(),
        first_seq,
        events: (0..4096).map(event).collect(),
        counted: Vec::new(),
        gaps: Vec::new(),
    }
}

/// The last hundred events of keys, rare ones too.
async fn find(store: &Arc<dyn Store>, now: SystemTime) {
    let mut times = Vec::new();
    for n in 0..300 {
        let key = n * 97 % KEYS;
        let matching =
            EventMatch { key_id: Some(format!("key-{key:028}")), ..EventMatch::default() };
        let environment = id("default");
        let filter = EventFilter { environment, from: now - 30 * DAY, until: now, matching };
        let begun = Instant::now();
        let found = store.events(&filter, None, 100).await.expect("reads");
        times.push(begun.elapsed());
        assert!(found.events.len() <= 100);
    }
    say("the last 100 events of a key", times);
    let mut times = Vec::new();
    let matching = EventMatch::default();
    let filter = EventFilter { environment: id("default"), from: now - DAY, until: now, matching };
    let mut after = None;
    for _ in 0..100 {
        let begun = Instant::now();
        let found = store.events(&filter, after, 1000).await.expect("reads");
        times.push(begun.elapsed());
        after = found.events.last().map(|(position, _)| *position).or(after);
    }
    say("a page of 1000 of all", times);
}

async fn count(store: &Arc<dyn Store>, now: SystemTime) {
    for (step, span) in
        [(Step::Hour, DAY), (Step::Minute, DAY / 24), (Step::Minute, DAY), (Step::Day, 30 * DAY)]
    {
        for key_id in [None, Some(format!("key-{:028}", 7))] {
            let query = MetricsQuery {
                environment: id("default"),
                from: step.begin(now - span),
                until: step.begin(now) + step.length(),
                step,
                key_id,
                source_path: None,
                route_id: None,
                target_url: None,
                error: None,
                status: None,
                top: 10,
            };
            let mut times = Vec::new();
            let mut requests = 0;
            for _ in 0..10 {
                let begun = Instant::now();
                requests = store.metrics(&query).await.expect("reads").totals.sums.requests;
                times.push(begun.elapsed());
            }
            let of = if query.key_id.is_some() { "a key" } else { "all" };
            say(&format!("metrics of {of}, {span:?} by the {step:?}, {requests} requests"), times);
        }
    }
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
}
