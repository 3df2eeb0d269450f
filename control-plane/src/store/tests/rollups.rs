//! What is added up is what a recount of the events comes to, whenever it is asked and whatever was
//! added up by then.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{admin::v1::LogEvent, audit::EventMatch};

use super::{
    events::is_new,
    samples::{change, commit, commit_change, id, key, listed},
};
use crate::{
    domain::{
        Change, Environment, EventBatch, EventFilter, EventGap, Expect, Metrics, MetricsQuery, Op,
        Step, Total,
    },
    store::{Appended, Retention, Store},
};

type Db = Arc<dyn Store>;

const DAY: u64 = 86_400;
/// The end of all time here: three days, of which events are.
const END: u64 = 3 * DAY;

/// Numbers that are the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn event(dice: &mut Dice, around: u64) -> LogEvent {
    let key = dice.below(4);
    let statuses = [200, 204, 404, 429, 500, 503];
    let status = statuses[dice.below(6) as usize];
    let second = (around + dice.below(5000)).min(END - 1);
    LogEvent {
        timestamp: Some((at(second) + Duration::from_micros(dice.below(1_000_000))).into()),
        key_id: if key == 0 { String::new() } else { format!("k{key}") },
        source_path: if key == 0 { String::new() } else { format!("app{}", key % 2) },
        route_id: format!("r{}", dice.below(2)),
        target_url: format!("http://t{}", dice.below(2)),
        status_code: status,
        error: if status == 503 { "upstream_unavailable".into() } else { String::new() },
        rate_limited: status == 429,
        response_time_ms: dice.below(100_000) as f64 / 7.0,
        request_size: dice.below(100),
        response_size: dice.below(1000),
        environment: "default".into(),
        ..LogEvent::default()
    }
}

fn batch(node: &str, first_seq: u64, events: Vec<LogEvent>) -> EventBatch {
    EventBatch {
        node_id: node.into(),
        boot_id: "b".into(),
        environment: id("default"),
        first_seq,
        events,
        counted: Vec::new(),
        gaps: Vec::new(),
    }
}

fn query(step: Step) -> MetricsQuery {
    MetricsQuery {
        environment: id("default"),
        from: at(0),
        until: at(END),
        step,
        key_id: None,
        source_path: None,
        route_id: None,
        target_url: None,
        error: None,
        status: None,
        top: 100,
    }
}

/// The same from the events themselves.
fn recount(events: &[LogEvent], query: &MetricsQuery) -> Metrics {
    let us = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as i64
    };
    let is = |asked: &Option<String>, is: &str| asked.as_ref().is_none_or(|asked| asked == is);
    let mut metrics = Metrics::default();
    let mut tops: [BTreeMap<String, Total>; 5] = Default::default();
    for event in events {
        let at_us = us(SystemTime::try_from(event.timestamp.expect("a time")).expect("a time"));
        let status = event.status_code as u16;
        if !(us(query.from)..us(query.until)).contains(&at_us)
            || !is(&query.key_id, &event.key_id)
            || !is(&query.source_path, &event.source_path)
            || !is(&query.route_id, &event.route_id)
            || !is(&query.target_url, &event.target_url)
            || !is(&query.error, &event.error)
            || query.status.is_some_and(|(first, last)| !(first..=last).contains(&status))
        {
            continue;
        }
        let mut one = Total::default();
        one.sums.requests = 1;
        one.sums.rate_limited = u64::from(event.rate_limited);
        one.sums.request_bytes = event.request_size;
        one.sums.response_bytes = event.response_size;
        one.sums.last_us = at_us;
        one.sums.latency.record(event.response_time_ms);
        let status = event.status_code as i16;
        metrics.totals.add(status, &one.sums);
        metrics.series.entry(query.step.floor(at_us)).or_default().add(status, &one.sums);
        let names =
            [&event.key_id, &event.source_path, &event.route_id, &event.target_url, &event.error];
        for (top, name) in tops.iter_mut().zip(names) {
            if !name.is_empty() {
                top.entry(name.clone()).or_default().add(status, &one.sums);
            }
        }
    }
    let [keys, source_paths, routes, targets, errors] = tops.map(|top| {
        let mut top: Vec<_> = top.into_iter().collect();
        top.sort_by_key(|(_, total)| std::cmp::Reverse(total.sums.requests));
        top
    });
    Metrics { keys, source_paths, routes, targets, errors, ..metrics }
}

async fn check(store: &Db, events: &[LogEvent], dice: &mut Dice) {
    for step in [Step::Minute, Step::Hour, Step::Day] {
        let mut asked = query(step);
        let filter: fn(&mut MetricsQuery) = [
            (|_| {}) as fn(&mut MetricsQuery),
            |q| q.key_id = Some("k1".into()),
            |q| q.source_path = Some("app1".into()),
            |q| q.route_id = Some("r1".into()),
            |q| q.target_url = Some("http://t0".into()),
            |q| q.error = Some("upstream_unavailable".into()),
            |q| q.status = Some((400, 499)),
            |q| (q.from, q.until) = (at(DAY), at(2 * DAY)),
            |q| (q.key_id, q.route_id) = (Some("k2".into()), Some("r0".into())),
        ][dice.below(9) as usize];
        filter(&mut asked);
        let found = store.metrics(&asked).await.expect("reads");
        assert_eq!(found, recount(events, &asked), "{asked:?}");
    }
    for name in ["k1", "k2", "k3"] {
        let (_, usage) = store.key(&id("default"), name).await.expect("reads").expect("is there");
        let used = events.iter().filter(|event| event.key_id == name);
        let last = used.clone().filter_map(|event| event.timestamp.map(SystemTime::try_from));
        assert_eq!(usage.count, used.count() as u64);
        assert_eq!(usage.last_used_at, last.map(|time| time.expect("a time")).max());
    }
}

pub(super) async fn what_is_added_up_is_what_a_recount_comes_to(store: Db) {
    for name in ["k1", "k2", "k3"] {
        commit(&store, vec![Op::PutKey(key(name), Expect::Absent)]).await.expect("commits");
    }
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut all: Vec<LogEvent> = Vec::new();
    for round in 0..60 {
        // Mostly what happens now, at times what a node kept for long.
        let now = END * round / 60;
        let around = if dice.below(4) == 0 { dice.below(END) } else { now };
        let size = 1 + dice.below(80);
        let events: Vec<_> = (0..size).map(|_| event(&mut dice, around)).collect();
        assert!(is_new(&store, &batch("n", all.len() as u64, events.clone())).await);
        all.extend(events);
        if dice.below(2) == 0 {
            store.roll_up(at(now)).await.expect("adds up");
        }
        if round % 6 == 5 {
            check(&store, &all, &mut dice).await;
        }
    }
    store.roll_up(at(END + DAY)).await.expect("adds up");
    for _ in 0..10 {
        check(&store, &all, &mut dice).await;
    }
}

pub(super) async fn batches_that_come_at_once_are_each_counted_once(store: Db) {
    // Four nodes, each pushing every batch twice at once, while sums are made of them.
    let mut dice = Dice(7);
    let mut all = Vec::new();
    let mut pushes = Vec::new();
    for node in 0..4 {
        let mut batches = Vec::new();
        let mut first_seq = 0;
        for _ in 0..15 {
            let size = 1 + dice.below(40);
            let events: Vec<_> = (0..size).map(|_| event(&mut dice, 0)).collect();
            all.extend(events.clone());
            batches.push(batch(&format!("n{node}"), first_seq, events));
            first_seq += size;
        }
        for _ in 0..2 {
            let (store, batches) = (store.clone(), batches.clone());
            pushes.push(tokio::spawn(async move {
                let mut stored = 0;
                for batch in &batches {
                    stored += u32::from(is_new(&store, batch).await);
                }
                stored
            }));
        }
    }
    let adding_up = tokio::spawn({
        let store = store.clone();
        async move {
            for now in 0..30 {
                store.roll_up(at(now * 200)).await.expect("adds up");
            }
        }
    });
    let mut stored = 0;
    for push in pushes {
        stored += push.await.expect("no panic");
    }
    adding_up.await.expect("no panic");
    assert_eq!(stored, 60, "each of them once");
    let found = store.metrics(&query(Step::Hour)).await.expect("reads");
    assert_eq!(found, recount(&all, &query(Step::Hour)));
    let matching = EventMatch::default();
    let filter = EventFilter { environment: id("default"), from: at(0), until: at(END), matching };
    assert_eq!(listed(&store, &filter).await.len(), all.len());
}

pub(super) async fn many_environments_are_added_up_in_bounded_time(store: Db) {
    // As many as are added up at once, each with requests of a minute that is over, and of one that
    // is not: of those a part stays.
    let mut dice = Dice(5);
    for number in 0..20 {
        let environment = id(&format!("e{number}"));
        let create = Op::PutEnvironment(Environment::new(environment.clone()), Expect::Absent);
        let create = Change { environment: environment.clone(), ..change(vec![create]) };
        commit_change(&store, &create).await.expect("commits");
        let events = [0, 2 * DAY].map(|time| event(&mut dice, time));
        let batch = batch(&format!("n{number}"), 0, events.into());
        let batch = EventBatch { environment, ..batch };
        assert!(is_new(&store, &batch).await);
    }
    let patience = Duration::from_secs(20);
    for _ in 0..2 {
        let added_up = tokio::time::timeout(patience, store.roll_up(at(DAY))).await;
        added_up.expect("ends").expect("adds up");
    }
    for number in 0..20 {
        let asked = MetricsQuery { environment: id(&format!("e{number}")), ..query(Step::Hour) };
        assert_eq!(store.metrics(&asked).await.expect("reads").totals.sums.requests, 2);
    }
}

pub(super) async fn a_batch_of_gaps_alone_stands_in_no_ones_way(store: Db) {
    let gap = EventGap { first_seq: 0, events: 5, reason: "dropped".into() };
    let empty = EventBatch { gaps: vec![gap], ..batch("n", 5, Vec::new()) };
    let first = store.append_events(&empty).await.expect("stores");
    assert_eq!(first, Appended { events: 0, lost: 5 });
    let again = store.append_events(&empty).await.expect("stores");
    assert_eq!(again, Appended { events: 0, lost: 0 }, "counted once");
    let mut dice = Dice(3);
    let events = vec![event(&mut dice, 0)];
    let next = EventBatch { gaps: empty.gaps.clone(), ..batch("n", 5, events) };
    assert!(is_new(&store, &next).await, "it begins where the gap ends");
    assert!(!is_new(&store, &next).await);
    let found = store.metrics(&query(Step::Day)).await.expect("reads");
    assert_eq!(found.totals.sums.requests, 1);
}

pub(super) async fn what_is_too_old_ends(store: Db) {
    let today = SystemTime::now();
    let day = Duration::from_secs(DAY);
    let mut dice = Dice(11);
    let on = |dice: &mut Dice, time: SystemTime| LogEvent {
        timestamp: Some(time.into()),
        ..event(dice, 0)
    };
    let days = [400, 41, 39, 9, 1, 0];
    let events: Vec<_> = days.map(|ago| on(&mut dice, today - ago * day)).into();
    store.append_events(&batch("n", 0, events)).await.expect("stores");
    // A clock that is wrong by years.
    let ahead = vec![on(&mut dice, today + 4000 * day)];
    store.append_events(&batch("n", 6, ahead)).await.expect("stores");
    store.roll_up(today + day).await.expect("adds up");
    let left = async || {
        let matching = EventMatch::default();
        let environment = id("default");
        let filter = EventFilter { environment, from: at(0), until: today + day, matching };
        listed(&store, &filter).await.len()
    };
    let counted = async |step: Step| {
        let until = step.begin(today) + 2 * step.length();
        let asked = MetricsQuery { until, ..query(step) };
        store.metrics(&asked).await.expect("reads").totals.sums.requests
    };
    assert_eq!(left().await, 7, "what can't have happened yet counts as now");
    let keep = async |events: u32, rollups: u32| {
        let kept =
            Retention { events: events * day, rollups: rollups * day, hourly_above: 32 << 30 };
        store.keep(&kept, today).await.expect("keeps");
    };
    keep(40, 500).await;
    assert_eq!((left().await, counted(Step::Day).await), (5, 7));
    assert_eq!(counted(Step::Minute).await, 5);
    // A day that was made a partition once goes with it.
    keep(8, 300).await;
    assert_eq!((left().await, counted(Step::Day).await), (3, 6));
    assert_eq!(counted(Step::Hour).await, 6);
    // What comes later finds its place all the same, until it is too old.
    let late = vec![on(&mut dice, today - 7 * day), on(&mut dice, today - 9 * day)];
    store.append_events(&batch("n", 7, late)).await.expect("stores");
    assert_eq!(left().await, 5);
    keep(8, 300).await;
    keep(8, 300).await;
    assert_eq!(left().await, 4);
}
