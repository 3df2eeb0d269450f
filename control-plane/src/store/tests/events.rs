//! Audit events: stored once, found by all they say, added up without loss, and ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::admin::v1::LogEvent;

use super::samples::{commit, id, key};
use crate::{
    domain::{EventBatch, EventFilter, EventMatch, Expect, Op},
    store::Store,
};

type Db = Arc<dyn Store>;

/// Stores a batch, and says whether its events were new.
pub(super) async fn is_new(store: &Db, batch: &EventBatch) -> bool {
    let appended = store.append_events(batch).await.expect("stores");
    assert!(appended.events == 0 || appended.events == batch.events.len() as u64);
    appended.events > 0
}

fn batch(first_seq: u64, events: Vec<LogEvent>) -> EventBatch {
    EventBatch {
        node_id: "n1".into(),
        boot_id: "b1".into(),
        environment: id("default"),
        first_seq,
        events,
        gaps: Vec::new(),
    }
}

fn event(second: u64) -> LogEvent {
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
    let stored = store.events(&everything(), None, 5000).await.expect("reads");
    assert_eq!(stored.len(), 2501);
    assert_eq!(stored[0].1, event(2500), "newest first, every field as it came");
    let (_, usage) = store.key(&id("default"), "k1").await.expect("reads").expect("is there");
    assert_eq!(usage.count, 2501);
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(2500);
    assert_eq!(usage.last_used_at, Some(last));
    let rest = store.events(&everything(), Some(stored[1000].0), 5000).await.expect("reads");
    assert_eq!(rest[..], stored[1001..]);
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
        ..event(5)
    };
    let broken = LogEvent { key_id: "k\0".into(), ..event(20_000) };
    store.append_events(&batch(0, vec![event(1), event(9), broken])).await.expect("stores");
    let of_other = EventBatch { node_id: "n2".into(), ..batch(0, vec![odd]) };
    store.append_events(&of_other).await.expect("stores");
    let filters: [fn(&mut EventMatch); 23] = [
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
        |m| (m.key_id, m.status) = (Some("k2".into()), Some((404, 404))),
    ];
    let found = async |filter: &EventFilter| {
        let found = store.events(filter, None, 100).await.expect("reads");
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
