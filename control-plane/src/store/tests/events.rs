//! Audit events: stored once, found by all they say, added up without loss, and ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1::{LogEvent, RecordedBody, RecordedHeader},
    audit::EventMatch,
};

use super::{
    rollups::Dice,
    samples::{commit, id, key, listed},
};
use crate::{
    domain::{EventBatch, EventFilter, Expect, Op},
    store::Store,
};

type Db = Arc<dyn Store>;

/// Stores a batch, and says whether its events were new.
pub(super) async fn is_new(store: &Db, batch: &EventBatch) -> bool {
    let appended = store.append_events(batch).await.expect("stores");
    assert!(appended.events == 0 || appended.events == batch.events.len() as u64);
    appended.events > 0
}

pub(super) fn batch(first_seq: u64, events: Vec<LogEvent>) -> EventBatch {
    EventBatch {
        node_id: "n1".into(),
        boot_id: "b1".into(),
        environment: id("default"),
        first_seq,
        events,
        counted: Vec::new(),
        gaps: Vec::new(),
    }
}

pub(super) fn event(second: u64) -> LogEvent {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    LogEvent {
        timestamp: Some(time.into()),
        request_id: format!("r{second}"),
        key_id: "k1".into(),
        source_path: "mobile_app".into(),
        method: "GET".into(),
        path: format!("/a%{second}"),
        target_url: "http://127.0.0.1:1".into(),
        status_code: 200,
        response_time_ms: 1.5,
        request_size: 7,
        response_size: 8,
        user_agent: "curl".into(),
        ip_address: "127.0.0.1".into(),
        environment: "default".into(),
        node_id: "n1".into(),
        route_id: "a".into(),
        upstream_time_ms: 1.25,
        ttfb_ms: 1.375,
        attempts: 2,
        error: "x".into(),
        rate_limited: true,
        secret_version: 3,
        response_chunks: 4,
        response_end: "complete".into(),
        ..LogEvent::default()
    }
}

/// All events of the first hours of 1970.
fn everything() -> EventFilter {
    EventFilter {
        environment: id("default"),
        from: SystemTime::UNIX_EPOCH,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(10_000),
        matching: EventMatch::default(),
    }
}

pub(super) async fn events_are_stored_once_and_counted(store: Db) {
    commit(&store, vec![Op::PutKey(key("k1"), Expect::Absent)]).await.expect("commits");
    let first = batch(0, (0..2500).map(event).collect());
    assert!(is_new(&store, &first).await);
    assert!(!is_new(&store, &first).await, "stored before");
    assert!(is_new(&store, &batch(2500, vec![event(2500)])).await);
    let stored = listed(&store, &everything()).await;
    assert_eq!(stored.len(), 2501);
    assert_eq!(stored[0].1, event(2500), "newest first, every field as it came");
    let (_, usage) = store.key(&id("default"), "k1").await.expect("reads").expect("is there");
    assert_eq!(usage.count, 2501);
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(2500);
    assert_eq!(usage.last_used_at, Some(last));
    let rest = store.events(&everything(), Some(stored[1000].0), 2).await.expect("reads");
    assert_eq!(rest.events[..], stored[1001..1003]);
}

pub(super) async fn what_is_only_counted_is_counted_once_and_never_listed(store: Db) {
    commit(&store, vec![Op::PutKey(key("k1"), Expect::Absent)]).await.expect("commits");
    let counted = (0..30).map(event).collect();
    let sample = EventBatch { counted, ..batch(0, vec![event(40), event(41)]) };
    let appended = async || store.append_events(&sample).await.expect("stores").events;
    assert_eq!((appended().await, appended().await), (32, 0), "all are stored, and once");
    let alone = EventBatch { counted: vec![event(50)], ..batch(32, Vec::new()) };
    assert_eq!(store.append_events(&alone).await.expect("stores").events, 1);
    assert!(!is_new(&store, &batch(32, vec![event(51)])).await, "its number is taken");
    assert!(is_new(&store, &batch(33, vec![event(52)])).await);
    let stored = listed(&store, &everything()).await;
    let ids: Vec<_> = stored.iter().map(|(_, event)| &*event.request_id).collect();
    assert_eq!(ids, ["r52", "r41", "r40"]);
    let (_, usage) = store.key(&id("default"), "k1").await.expect("reads").expect("is there");
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(52);
    assert_eq!((usage.count, usage.last_used_at), (34, Some(last)));
}

pub(super) async fn what_routes_ask_to_be_recorded_comes_back(store: Db) {
    let header = |value: &str| RecordedHeader { name: "x-a".into(), value: value.into() };
    let body = |text: &str| {
        Some(RecordedBody { text: text.into(), truncated: true, ..RecordedBody::default() })
    };
    let recorded = LogEvent {
        request_headers: vec![header("a\"\0\u{1b}用"), header("")],
        response_headers: vec![header("b")],
        request_body: body("{\"a\": 1}\r\n\0"),
        response_body: body(&"用".repeat(60_000)),
        response_end: "client_gone".into(),
        response_chunks: u32::MAX,
        ..event(1)
    };
    store.append_events(&batch(0, vec![recorded.clone(), event(0)])).await.expect("stores");
    let stored = listed(&store, &everything()).await;
    let stored: Vec<_> = stored.into_iter().map(|(_, event)| event).collect();
    assert_eq!(stored, [recorded, event(0)]);
}

pub(super) async fn a_page_is_as_large_as_clients_take(store: Db) {
    let body = |bytes| RecordedBody { text: "x".repeat(bytes), ..RecordedBody::default() };
    let large = |second, bytes| LogEvent { request_body: Some(body(bytes)), ..event(second) };
    // Two of a mebibyte are all that fits; the one that fills the page is on it, too.
    let sizes = [1, 1 << 20, 1 << 20, 3 << 20, 700_000, 700_000, 700_000, 1];
    let events: Vec<_> = (0..).zip(sizes).map(|(second, bytes)| large(second, bytes)).collect();
    for (seq, event) in (0..).zip(&events) {
        assert!(is_new(&store, &batch(seq, vec![event.clone()])).await);
    }
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.events(&everything(), after, 6).await.expect("reads");
        let Some((last, _)) = page.events.last() else { break };
        after = Some(*last);
        pages.push((page.events.len(), page.left_out));
    }
    assert_eq!(pages, [(4, 2), (1, 3), (2, 1), (1, 0)]);
    let all: Vec<_> = listed(&store, &everything()).await;
    assert!(all.into_iter().rev().map(|(_, event)| event).eq(events));
}

pub(super) async fn events_are_found_by_every_field(store: Db) {
    let odd = LogEvent {
        key_id: "k2".into(),
        source_path: "web".into(),
        method: "POST".into(),
        path: "/B%\0_".into(),
        status_code: 404,
        route_id: "b".into(),
        target_url: "http://127.0.0.1:2".into(),
        error: "y".into(),
        ip_address: "::1".into(),
        user_agent: "Mozilla/5.0 (%)".into(),
        rate_limited: false,
        secret_version: 4,
        attempts: 3,
        response_time_ms: 2.0,
        upstream_time_ms: 2.0,
        ttfb_ms: 2.0,
        request_size: 9,
        response_size: 9,
        response_chunks: 5,
        response_end: "client_gone".into(),
        ..event(5)
    };
    let broken = LogEvent { key_id: "k\0".into(), ..event(20_000) };
    store.append_events(&batch(0, vec![event(1), event(9), broken])).await.expect("stores");
    let of_other = EventBatch { node_id: "n2".into(), ..batch(0, vec![odd]) };
    store.append_events(&of_other).await.expect("stores");
    let filters: [fn(&mut EventMatch); 25] = [
        |m| m.key_id = Some("k2".into()),
        |m| m.source_path = Some("web".into()),
        |m| m.method = Some("POST".into()),
        |m| m.path_prefix = Some("/B%".into()),
        |m| m.path_prefix = Some("/B%\u{fffd}_".into()),
        |m| m.path_contains = Some("B%".into()),
        |m| m.status = Some((400, 499)),
        |m| m.request_id = Some("r5".into()),
        |m| m.route_id = Some("b".into()),
        |m| m.target_url = Some("http://127.0.0.1:2".into()),
        |m| m.error = Some("y".into()),
        |m| m.ip_address = Some("::1".into()),
        |m| m.user_agent_contains = Some("0 (%".into()),
        |m| m.node_id = Some("n2".into()),
        |m| m.rate_limited = Some(false),
        |m| m.secret_version = Some(4),
        |m| m.min_attempts = Some(3),
        |m| m.min_response_time_ms = Some(1.6),
        |m| m.min_upstream_time_ms = Some(2.0),
        |m| m.min_ttfb_ms = Some(2.0),
        |m| m.min_request_size = Some(8),
        |m| m.min_response_size = Some(9),
        |m| m.response_end = Some("client_gone".into()),
        |m| m.min_response_chunks = Some(5),
        |m| (m.key_id, m.status) = (Some("k2".into()), Some((404, 404))),
    ];
    let found = async |filter: &EventFilter| {
        let found = listed(&store, filter).await;
        found.into_iter().map(|(_, event)| event.request_id).collect::<Vec<_>>()
    };
    for (at, set) in filters.iter().enumerate() {
        let mut filter = everything();
        set(&mut filter.matching);
        assert_eq!(found(&filter).await, ["r5"], "filter {at}");
    }
    let mut between = everything();
    between.from += Duration::from_secs(5);
    between.until = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
    assert_eq!(found(&between).await, ["r5"]);
    for text in ["/b", "B_", "%"] {
        let mut none = everything();
        none.matching.path_prefix = Some(text.into());
        none.matching.path_contains = Some("b%\u{fffd}".into());
        assert_eq!(found(&none).await, [""; 0], "letter case counts, and wildcards are none");
    }
}

/// One of a few texts that are alike.
fn text(dice: &mut Dice) -> String {
    ["", "a", "A", "/a", "/a/b", "/a/b%", "é/ü", "/a/\u{fffd}_"][dice.below(8) as usize].into()
}

fn number(dice: &mut Dice) -> u64 {
    [0, 1, 2, 99, 40_000, u64::MAX][dice.below(6) as usize]
}

fn some<T>(dice: &mut Dice, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    (dice.below(6) == 0).then(|| make(dice))
}

fn random_event(dice: &mut Dice, number_of_it: u64) -> LogEvent {
    LogEvent {
        timestamp: event(number_of_it).timestamp,
        request_id: text(dice),
        key_id: text(dice),
        source_path: text(dice),
        method: text(dice),
        path: text(dice) + &text(dice),
        target_url: text(dice),
        status_code: [-1, 0, 200, 404, 499, 500, 70_000][dice.below(7) as usize],
        response_time_ms: dice.below(5) as f64 / 2.0,
        request_size: number(dice),
        response_size: number(dice),
        user_agent: text(dice) + &text(dice),
        ip_address: text(dice),
        environment: "default".into(),
        node_id: "n1".into(),
        route_id: text(dice),
        upstream_time_ms: dice.below(5) as f64 / 2.0,
        ttfb_ms: dice.below(5) as f64 / 2.0,
        attempts: [0, 1, 2, 40_000][dice.below(4) as usize],
        error: text(dice),
        rate_limited: dice.below(2) == 0,
        secret_version: number(dice).try_into().unwrap_or(u32::MAX),
        response_chunks: number(dice).try_into().unwrap_or(u32::MAX),
        response_end: text(dice),
        ..LogEvent::default()
    }
}

fn random_match(dice: &mut Dice) -> EventMatch {
    let least = |dice: &mut Dice| some(dice, |dice| dice.below(5) as f64 / 2.0);
    EventMatch {
        key_id: some(dice, text),
        source_path: some(dice, text),
        path_prefix: some(dice, text),
        path_contains: some(dice, text),
        method: some(dice, text),
        status: some(dice, |dice| {
            [(200, 200), (400, 499), (500, 599), (100, 599)][dice.below(4) as usize]
        }),
        request_id: some(dice, text),
        route_id: some(dice, text),
        target_url: some(dice, text),
        error: some(dice, text),
        ip_address: some(dice, text),
        user_agent_contains: some(dice, text),
        node_id: some(dice, |dice| format!("n{}", dice.below(2))),
        rate_limited: some(dice, |dice| dice.below(2) == 0),
        secret_version: some(dice, |dice| number(dice).try_into().unwrap_or(u32::MAX)),
        min_attempts: some(dice, |dice| [1, 2, 32_767, 32_768][dice.below(4) as usize]),
        min_response_time_ms: least(dice),
        min_upstream_time_ms: least(dice),
        min_ttfb_ms: least(dice),
        min_request_size: some(dice, number),
        min_response_size: some(dice, number),
        response_end: some(dice, text),
        min_response_chunks: some(dice, |dice| number(dice).try_into().unwrap_or(u32::MAX)),
    }
}

/// Nodes look through events before they are stored, for those who watch the log as it grows.
pub(super) async fn what_matches_on_a_node_is_what_is_found(store: Db) {
    let mut dice = Dice(0x5EED);
    let events: Vec<_> = (0..2000).map(|number| random_event(&mut dice, number)).collect();
    assert!(is_new(&store, &batch(0, events.clone())).await);
    let (mut none, mut some) = (0, 0);
    for _ in 0..400 {
        let matching = random_match(&mut dice);
        let matched = events.iter().rev().filter(|event| matching.matches(event));
        let expected: Vec<_> = matched.map(|event| event.timestamp).collect();
        let filter = EventFilter { matching, ..everything() };
        let found = listed(&store, &filter).await;
        let found: Vec<_> = found.into_iter().map(|(_, event)| event.timestamp).collect();
        assert_eq!(found, expected, "{:?}", filter.matching);
        let counter = if found.is_empty() { &mut none } else { &mut some };
        *counter += 1;
    }
    assert!(none > 50 && some > 50, "{none} {some}: the filters tell nothing apart");
}
