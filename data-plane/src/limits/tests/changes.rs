//! Limits that are changed while they are in use: what was taken of them as they were must lock nobody
//! out for longer than is said.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn rate(amount: i64, period: Period, burst: Option<i64>) -> Limit {
    let rate = Rate::parse(amount, period, burst).expect("a rate");
    let measure = Measure::Tokens(Tokens::Rate(rate));
    Limit { measure, fallback: Fallback::LocalShare, shadow: false }
}

/// A rate whose buckets are full again within a day.
fn bucket(dice: &mut Dice) -> Bucket {
    let interval = [1, 1_000, SECOND, 600 * SECOND][dice.roll(4) as usize];
    let bucket = Bucket::steady(interval * (1 + dice.roll(9)), 1 + dice.roll(12));
    Bucket { is_charged: dice.roll(4) == 0, ..bucket }
}

#[test]
fn whoever_waits_as_told_is_admitted_whatever_the_limit_was() {
    let server = Server::start();
    let mut lua = Lua::of(&server);
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..sequences() {
        let (name, mut kept) = ([format!("{round}")], [Kept::default()]);
        let mut micros = 1_800_000_000_000_000 + dice.roll(1_000_000_000);
        for _ in 0..4 {
            let bucket = bucket(&mut dice);
            let mut ask = |want, spent, micros| {
                let asks = [Ask { want, spent, ..Ask::about(bucket) }];
                let grants = mirror::call(&mut kept, &asks, micros * 1000);
                assert_eq!(lua.call(&name, &asks, micros), grants, "round {round}: {asks:?}");
                grants[0]
            };
            // Requests come until one is refused, and others while that one waits.
            let spent = if bucket.is_charged { dice.roll(2 * bucket.tokens()) } else { 0 };
            ask(bucket.tokens(), spent, micros);
            let refused = ask(1, 0, micros);
            if refused.tokens > 0 {
                continue;
            }
            let wait = bucket.wait_nanos(bucket.level_of(refused.taken, None)).div_ceil(1000);
            let mut others: Vec<_> = (0..3).map(|_| micros + dice.roll(wait)).collect();
            others.sort_unstable();
            for at in others {
                let grant = ask(1, 0, at);
                assert_eq!(grant.tokens, 0, "round {round}: {bucket:?} is empty until then");
            }
            micros += wait;
            assert_eq!(ask(1, 0, micros).tokens, 1, "round {round}: {bucket:?} after {wait} us");
        }
        let _: () = lua.redis.del(&name).expect("deletes");
    }
}

#[tokio::test]
async fn a_limit_that_fills_up_faster_now_admits_who_waits_as_told() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("connected", || limiter.state() != State::Fallback).await;
        for (key, before, now) in [
            ("k1", rate(24, Period::Hour, None), rate(600, Period::Minute, None)),
            ("k2", rate(60, Period::Minute, Some(30)), rate(60, Period::Minute, Some(3))),
        ] {
            while admits(&worker, key, before).await {}
            for _ in 0..3 {
                let policies = of_key(key, &[(Scope::Key, now)]);
                let verdict = worker.admit(&policies).await;
                let Verdict::Refused { retry_after, .. } = verdict else {
                    panic!("{key}: it is used up: {verdict:?}");
                };
                assert_eq!(retry_after, Duration::from_secs(1), "{key}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(admits(&worker, key, now).await, "{key} at {:?}", limiter.state());
        }
    }
}

#[tokio::test]
async fn a_share_of_a_limit_that_was_changed_admits_who_waits_as_told() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    limiter.set_node_count(3);
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    while admits(&worker, "k1", rate(24, Period::Hour, None)).await {}
    drop(server);
    until("noticed", || limiter.state() == State::Fallback).await;
    // No node's share of eight is a third of it.
    let now = rate(600, Period::Minute, Some(8));
    assert!(!admits(&worker, "k1", now).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(admits(&worker, "k1", now).await);
}
