//! Limits against a real Redis, which the tests start for themselves and treat badly.

mod access;
mod changes;
mod charges;
mod concurrency;
mod deployments;
mod given_up;
mod log;
mod quotas;
mod resets;
mod servers;
mod slow;

use std::{
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

use ::redis::{Commands as _, Script};
use fastgate::model::{
    Calendar, Charge, Cost, Fallback, Id, Limit, Measure, Period, Quota, Rate, RateLimit, Tokens,
};
use futures_util::FutureExt as _;

use self::servers::Server;
use crate::allocations;

use super::{
    Forgotten, Limiter, Policies, RedisAddress, RedisSettings, Scope, State, Subject, Verdict,
    WorkerLimiter,
    ask::{Ask, Back, Grant},
    gcra::Bucket,
    mirror::{self, Kept},
};

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn limit(per_minute: i64, fallback: Fallback) -> Limit {
    Limit::a_minute(RateLimit::parse(per_minute).expect("a rate"), fallback)
}

fn quota(amount: i64, calendar: Calendar) -> Limit {
    let quota = Quota::parse(amount, calendar).expect("a quota");
    let measure = Measure::Tokens(Tokens::Quota(quota));
    Limit { measure, fallback: Fallback::LocalShare, shadow: false }
}

/// The limits of a key on a route.
fn of_key<'a>(key: &'a str, limits: &[(Scope<'a>, Limit)]) -> Policies<'a> {
    let mut policies = Policies::default();
    limits.iter().for_each(|(scope, limit)| policies.push(Subject::Key(key), *scope, *limit));
    policies
}

fn settings(url: &str, ca: Option<PathBuf>) -> RedisSettings {
    RedisSettings { address: RedisAddress::parse(url).expect("a URL"), ca }
}

fn limiter(url: &str) -> Limiter {
    Limiter::new(&id("default"), Some(&settings(url, None))).expect("a limiter")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn admits(worker: &WorkerLimiter, key: &str, limit: Limit) -> bool {
    let policies = of_key(key, &[(Scope::Key, limit)]);
    matches!(worker.admit(&policies).await, Verdict::Admitted(_))
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Sequences of twenty calls Rust and Lua are held to: `FASTGATE_SEQUENCES=50000` makes a million
/// calls, in some minutes.
fn sequences() -> u64 {
    let asked = std::env::var("FASTGATE_SEQUENCES").ok();
    asked.map_or(300, |asked| asked.parse().expect("FASTGATE_SEQUENCES is a number"))
}

/// The script at a Redis, at times the test says.
struct Lua {
    redis: ::redis::Connection,
    script: Script,
}

impl Lua {
    fn of(server: &Server) -> Self {
        // The clock comes from the test, and keys live on: time there is not the time here.
        let script = include_str!("../limit.lua")
            .replace("redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }")
            .replace(", 'PX', ttl", "");
        Self { redis: server.connection(), script: Script::new(&script) }
    }

    fn call(&mut self, names: &[String], asks: &[Ask], micros: u64) -> Vec<Grant> {
        let mut call = self.script.prepare_invoke();
        for (name, ask) in names.iter().zip(asks) {
            call.key(name);
            for argument in ask.arguments() {
                call.arg(argument);
            }
        }
        call.arg(micros / 1_000_000).arg(micros % 1_000_000);
        let answer: Vec<u64> = call.invoke(&mut self.redis).expect("the script runs");
        let answer: Option<Vec<_>> = answer.chunks(Grant::NUMBERS).map(Grant::read).collect();
        answer.expect("seven numbers of each bucket")
    }
}

#[test]
fn rust_and_lua_agree_to_the_nanosecond() {
    let server = Server::start();
    let mut lua = Lua::of(&server);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let rates = [1, 7, 59, 60, 61, 100, 999, 60_000, 1_234_567, 600_000_000, 999_999_999];
    for round in 0..sequences() {
        let count = 1 + dice.roll(2);
        let bucket = |dice: &mut Dice| {
            let amount = rates[dice.roll(11) as usize];
            let tokens = match dice.roll(4) {
                0 => Tokens::Quota(Quota::parse(amount, Calendar::Day).expect("a quota")),
                1 => Tokens::Quota(Quota::parse(amount, Calendar::Month).expect("a quota")),
                _ => {
                    let periods = [Period::Second, Period::Minute, Period::Hour];
                    let period = periods[dice.roll(3) as usize];
                    let burst = Some(1 + dice.roll(amount as u64 * 2) as i64);
                    // A burst may take longer than a day to be refilled.
                    let rate = Rate::parse(amount, period, burst);
                    rate.map_or_else(|_| RateLimit::parse(amount).map(Rate::from), Ok)
                        .map(Tokens::Rate)
                        .expect("a rate")
                }
            };
            let most = match tokens {
                Tokens::Rate(rate) => u64::from(rate.burst()),
                Tokens::Quota(quota) => quota.amount(),
            };
            let cost = match dice.roll(4) {
                0 => Cost::Charged(Charge::RequestBytes),
                1 => Cost::Fixed(NonZeroU32::new(1 + dice.roll(most.min(9)) as u32).expect("some")),
                _ => Cost::ONE,
            };
            Bucket::new(tokens, &cost)
        };
        let mut buckets: Vec<_> = (0..count).map(|_| bucket(&mut dice)).collect();
        let names: Vec<_> = (0..buckets.len()).map(|at| format!("{round}:{at}")).collect();
        let mut kept = vec![Kept::default(); buckets.len()];
        let mut granted: Vec<Vec<Grant>> = vec![Vec::new(); buckets.len()];
        let mut micros = 1_800_000_000_000_000 + dice.roll(1_000_000_000);
        for step in 0..20 {
            // Mostly short steps, some longer than a bucket takes to fill, some back in time; and some
            // into another day or year, or to where one begins.
            micros = match dice.roll(9) {
                8 if dice.roll(4) == 0 => {
                    let day = micros / 86_400_000_000 + dice.roll(100);
                    day * 86_400_000_000 + dice.roll(120_000_000)
                }
                8 if dice.roll(2) == 0 => micros + dice.roll(90_000_000_000),
                8 => micros + dice.roll(100_000_000_000_000),
                0 => micros + dice.roll(120_000_000),
                1 if dice.roll(4) == 0 => micros - dice.roll(3_600_000_000),
                1 => micros - dice.roll(5_000_000),
                _ => micros + dice.roll(buckets[0].interval / 500 + 1),
            };
            if dice.roll(8) == 0 {
                // The limit was changed.
                buckets[0] = bucket(&mut dice);
            }
            let mut ask = |(bucket, granted): (&Bucket, &mut Vec<Grant>)| {
                let most = [1, 3, bucket.tokens() + 1][dice.roll(3) as usize];
                let some = |dice: &mut Dice| if dice.roll(3) == 0 { dice.roll(most) } else { 0 };
                let earlier = match granted.len() as u64 {
                    0 => None,
                    count if dice.roll(2) == 0 => Some(granted.remove(dice.roll(count) as usize)),
                    _ => None,
                };
                let seen = earlier.map(|grant| grant.version).filter(|_| dice.roll(2) == 0);
                let back =
                    |grant: Grant| Back { tokens: dice.roll(grant.tokens + 1), mark: grant.mark };
                let back = earlier.map(back).unwrap_or_default();
                // Nothing is leased of what requests are charged to.
                let is_leased = !bucket.is_charged;
                let back = if is_leased { back } else { Back::default() };
                let want = if !is_leased || dice.roll(8) == 0 { 0 } else { 1 + dice.roll(most) };
                let beyond = if bucket.is_charged { dice.roll(2 * bucket.tokens()) } else { 0 };
                let floor = if dice.roll(8) == 0 { dice.roll(bucket.capacity * 2) } else { 0 };
                let (bucket, spent) = (*bucket, some(&mut dice) + beyond);
                let is_recall = dice.roll(8) == 0;
                let spent_for = [0, dice.roll(1_000_000), dice.roll(100_000_000_000)];
                let spent_for = spent_for[dice.roll(3) as usize];
                let seen = seen.unwrap_or_default();
                Ask { bucket, want, spent, spent_for, back, floor, seen, is_recall }
            };
            let asks: Vec<_> = buckets.iter().zip(&mut granted).map(&mut ask).collect();
            let expected = mirror::call(&mut kept, &asks, micros * 1000);
            let answer = lua.call(&names, &asks, micros);
            assert_eq!(answer, expected, "round {round} step {step}: {asks:?} at {micros}");
            for (grant, granted) in answer.iter().zip(&mut granted) {
                if grant.tokens > 0 {
                    granted.push(*grant);
                }
            }
        }
        let _: () = lua.redis.del(&names).expect("deletes");
    }
}

#[tokio::test]
async fn nodes_share_a_limit_in_redis() {
    let server = Server::start();
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    until("both are connected", || nodes.iter().all(|n| n.state() == State::Redis)).await;
    let start = Instant::now();
    let mut admitted = 0;
    for request in 0..600 {
        admitted +=
            u64::from(admits(&workers[request % 2], "k1", limit(60, Fallback::Closed)).await);
    }
    let seconds = start.elapsed().as_secs();
    assert!((60..=60 + seconds).contains(&admitted), "{admitted} in {seconds} s");
    let mut redis = server.connection();
    let keys: Vec<String> = redis.keys("*").expect("lists");
    assert_eq!(keys, ["fg:rl:{default:k1}:key"]);
    let ttl: i64 = redis.pttl(&keys[0]).expect("has a TTL");
    assert!((1..=60_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn what_somebody_else_put_in_the_place_of_a_bucket_is_in_nobodys_way() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("is connected", || limiter.state() == State::Redis).await;
    let _: u64 = server.admin("RPUSH fg:rl:{default:k1}:key 1");
    let _: u64 = server.admin("RPUSH fg:rl:{default:k1}:route:r1:one:slots 1");
    let mut admitted = 0;
    for _ in 0..9 {
        admitted += u64::from(admits(&worker, "k1", limit(4, Fallback::Closed)).await);
    }
    assert_eq!((admitted, limiter.state()), (4, State::Redis));

    let (route, name) = (id("r1"), id("one"));
    let measure = Measure::Concurrent(NonZeroU32::MIN);
    let one = Limit { measure, fallback: Fallback::Closed, shadow: false };
    let policies = of_key("k1", &[(Scope::OfRoute(&route, &name), one)]);
    assert_eq!(worker.enter(&policies).await.expect("enters").len(), 1);
}

#[tokio::test]
async fn both_limits_admit_or_neither_counts() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("connected", || limiter.state() != State::Fallback).await;
        let route = id("r1");
        let limits = [
            (Scope::Key, limit(10, Fallback::Closed)),
            (Scope::Route(&route), limit(2, Fallback::Closed)),
        ];
        let policies = of_key("k1", &limits);
        let mut refused = 0;
        for _ in 0..5 {
            match worker.admit(&policies).await {
                Verdict::Admitted(_) => {}
                Verdict::Refused { standings, retry_after } => {
                    refused += 1;
                    let told: Vec<_> = standings
                        .iter()
                        .map(|s| (s.label.as_str(), s.quota, s.window, s.remaining))
                        .collect();
                    assert_eq!(told, [("key", 10, Some(60), 8), ("route", 2, Some(60), 0)]);
                    assert!((29..=30).contains(&retry_after.as_secs()), "{retry_after:?}");
                }
                Verdict::Unavailable => panic!("it is there"),
            }
        }
        assert_eq!(refused, 3);
    }
}

#[tokio::test]
async fn each_fallback_does_as_it_says_while_redis_is_away() {
    // Nothing listens there.
    let limiter = limiter("redis://127.0.0.1:1");
    let worker = limiter.for_worker();
    limiter.set_node_count(3);
    assert_eq!(limiter.state(), State::Fallback);
    let start = Instant::now();
    let mut admitted = 0;
    for _ in 0..200 {
        assert!(admits(&worker, "open", limit(1, Fallback::Open)).await);
        admitted += u32::from(admits(&worker, "share", limit(90, Fallback::LocalShare)).await);
        let policies = of_key("closed", &[(Scope::Key, limit(90, Fallback::Closed))]);
        let verdict = worker.admit(&policies).await;
        assert_eq!(verdict, Verdict::Unavailable);
    }
    let refill = start.elapsed().as_secs() as u32;
    assert!((30..=30 + refill).contains(&admitted), "{admitted}");
    assert!(start.elapsed() < Duration::from_secs(1), "requests waited for redis");
}

#[tokio::test]
async fn a_redis_that_hangs_or_dies_costs_little_and_is_taken_back() {
    let server = Server::start();
    let port = server.port;
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    let open = limit(1_000_000, Fallback::Open);
    until("connected", || limiter.state() == State::Redis).await;

    server.signal("-STOP");
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(admits(&worker, "k1", open).await);
    }
    // One call of 50 ms; the rest is room for a busy machine.
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(limiter.state(), State::Fallback);
    server.signal("-CONT");
    until("taken back after a hang", || limiter.state() == State::Redis).await;

    drop(server);
    assert!(admits(&worker, "k1", open).await);
    assert_eq!(limiter.state(), State::Fallback);
    let server = Server::start_on(port);
    until("taken back after a death", || limiter.state() == State::Redis).await;
    assert!(admits(&worker, "k2", limit(60, Fallback::Open)).await);
    let keys: Vec<String> = server.connection().keys("*").expect("lists");
    assert_eq!(keys, ["fg:rl:{default:k2}:key"]);
}

#[tokio::test]
async fn a_queue_of_calls_counts_in_redis_alone() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(60, Fallback::LocalShare);
    let start = Instant::now();
    let calls = futures_util::future::join_all((0..1000).map(|_| admits(&worker, "k1", limit)));
    let admitted = calls.await.into_iter().filter(|admitted| *admitted).count() as u64;
    assert!((60..=60 + start.elapsed().as_secs()).contains(&admitted), "{admitted}");
    assert_eq!(limiter.state(), State::Redis);
}

#[tokio::test]
async fn local_shares_go_on_from_what_redis_said_last() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(60, Fallback::LocalShare);
    let start = Instant::now();
    let mut admitted = 0;
    for _ in 0..80 {
        admitted += u64::from(admits(&worker, "k1", limit).await);
    }
    drop(server);
    until("noticed, though nobody asks", || limiter.state() == State::Fallback).await;
    for _ in 0..80 {
        admitted += u64::from(admits(&worker, "k1", limit).await);
    }
    // Where this machine is so busy that Redis seems far, one was fetched ahead and is lost.
    assert!((59..=60 + start.elapsed().as_secs()).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn four_overloaded_nodes_admit_what_the_limit_says() {
    let server = Server::start();
    for per_minute in [60, 6_000, 60_000] {
        let nodes: Vec<_> = (0..4).map(|_| limiter(&server.url())).collect();
        let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
        until("all are connected", || nodes.iter().all(|n| n.state() == State::Redis)).await;
        let (key, limit) = (format!("k{per_minute}"), limit(per_minute, Fallback::Closed));
        let (start, mut admitted, mut burst_gone) = (Instant::now(), 0_u64, None);
        let (mut requests, mut in_burst) = (0_u64, 0_u64);
        while burst_gone.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(2)) {
            let calls = workers.iter().map(|worker| admits(worker, &key, limit));
            let answers = futures_util::future::join_all(calls).await;
            requests += answers.len() as u64;
            admitted += answers.iter().filter(|admitted| **admitted).count() as u64;
            if burst_gone.is_none() && admitted >= per_minute as u64 && !answers.contains(&true) {
                (burst_gone, in_burst) = (Some(Instant::now()), admitted);
            }
            tokio::task::yield_now().await;
        }
        assert!(nodes.iter().all(|node| node.state() == State::Redis), "a busy machine");
        let per_second = per_minute as f64 / 60.0;
        let possible = per_minute as f64 + start.elapsed().as_secs_f64() * per_second;
        let share = admitted as f64 / possible;
        let since = burst_gone.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let calls: u64 = nodes.iter().map(Limiter::redis_calls).sum();
        println!(
            "{per_minute}/min: {admitted} of {requests} admitted, {share:.4} of {possible:.0}, then {} \
             in {since:.2} s; {calls} calls",
            admitted - in_burst,
        );
        // On a machine that stands still at times, tokens end unspent; more never come of it.
        assert!((0.95..=1.01).contains(&share), "{per_minute}/min: {share}");
        let after = (admitted - in_burst) as f64;
        // An empty bucket rests for 20 ms, at the beginning and at the end.
        let slack = 0.02 * per_second + 2.0;
        let expected = 0.95 * per_second * since - slack..=1.01 * per_second * since + slack;
        assert!(expected.contains(&after), "{per_minute}/min: {after} in {since} s");
    }
}

#[tokio::test]
async fn a_used_up_key_costs_no_call() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(1, Fallback::Closed);
    assert!(admits(&worker, "k1", limit).await);
    assert!(!admits(&worker, "k1", limit).await);
    let calls = limiter.redis_calls();
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(!admits(&worker, "k1", limit).await);
        tokio::task::yield_now().await;
    }
    // Once a second it is looked whether somebody filled it up.
    assert!(limiter.redis_calls() - calls <= start.elapsed().as_secs(), "{calls}");
}

#[tokio::test]
async fn a_hot_key_costs_few_calls() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(1_000_000, Fallback::Closed);
    let (start, mut requests) = (Instant::now(), 0_u32);
    while requests < 10_000 {
        // 10,000 a second.
        while start.elapsed().as_micros() / 100 > requests.into() {
            assert!(admits(&worker, "k1", limit).await);
            requests += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let calls = limiter.redis_calls();
    println!("{requests} requests, {calls} calls");
    assert!(calls <= u64::from(requests) / 20, "{calls}");
}

#[tokio::test]
async fn a_token_at_hand_costs_no_call_no_wait_and_no_memory() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    limiter.set_node_count(1);
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let route = id("r1");
    let limit = limit(1_000_000, Fallback::Closed);
    let policies = of_key("k1", &[(Scope::Key, limit), (Scope::Route(&route), limit)]);
    for _ in 0..100 {
        worker.admit(&policies).await;
    }
    let hits = (0..100).filter(|_| {
        let (calls, allocations) = (limiter.redis_calls(), allocations::of_this_thread());
        let verdict = worker.admit(&policies).now_or_never();
        let is_free = allocations == allocations::of_this_thread();
        matches!(verdict, Some(Verdict::Admitted(_))) && is_free && calls == limiter.redis_calls()
    });
    assert!(hits.count() > 10);
}

#[tokio::test]
async fn what_nobody_spends_is_given_back() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(6_000, Fallback::Closed);
    let full_at = || -> Option<f64> {
        let value: Option<String> =
            server.connection().get("fg:rl:{default:k1}:key").expect("reads");
        value?.split(' ').next()?.parse().ok()
    };
    tokio::select! {
        () = worker.give_back() => {}
        () = async {
            // More at a time with each call, of which the last ones are never spent.
            while limiter.redis_calls() < 4 {
                admits(&worker, "k1", limit).await;
            }
            let before = full_at().expect("is counted");
            until("given back", || full_at().is_none_or(|after| after < before)).await;
        } => {}
    }
}

#[tokio::test]
async fn a_redis_that_forgot_the_script_is_told_it_again() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(2, Fallback::Closed);
    assert!(admits(&worker, "k1", limit).await);
    let _: () = ::redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connection()).expect("done");
    assert!(admits(&worker, "k1", limit).await);
    assert!(!admits(&worker, "k1", limit).await);
    assert_eq!(limiter.state(), State::Redis);
}

#[tokio::test]
async fn what_was_spent_without_redis_is_debited_when_it_is_back() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = limit(60, Fallback::LocalShare);
    let start = Instant::now();
    let mut admitted = 0;
    let mut spend = async |requests| {
        for _ in 0..requests {
            admitted += u64::from(admits(&worker, "k1", limit).await);
        }
        admitted
    };
    spend(20).await;
    server.signal("-STOP");
    until("noticed", || limiter.state() == State::Fallback).await;
    assert_eq!(spend(20).await, 40);
    server.signal("-CONT");
    until("taken back", || limiter.state() == State::Redis).await;
    let admitted = spend(80).await;
    // Where this machine is so busy that Redis seems far, one was fetched ahead and is lost.
    assert!((59..=60 + start.elapsed().as_secs()).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn a_quota_is_shared_to_the_last_one_and_leased_in_blocks() {
    let server = Server::start();
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    for node in &nodes {
        node.set_node_count(2);
    }
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    until("both are connected", || nodes.iter().all(|n| n.state() == State::Redis)).await;
    let mut admitted = 0;
    for request in 0..12_000 {
        let limit = quota(10_000, Calendar::Month);
        admitted += u64::from(admits(&workers[request % 2], "k1", limit).await);
    }
    assert_eq!(admitted, 10_000);
    let calls: u64 = nodes.iter().map(Limiter::redis_calls).sum();
    assert!(calls < 500, "{calls}");
    let ttl: i64 = server.connection().pttl("fg:rl:{default:k1}:key").expect("has a TTL");
    assert!((1..=31 * 86_400_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn everybodys_limit_and_ones_own_admit_together_or_neither_counts() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("connected", || limiter.state() != State::Fallback).await;
        let (route, name) = (id("orders"), id("total"));
        let admitted = async |key| {
            let mut policies = of_key(key, &[(Scope::Key, limit(5, Fallback::Closed))]);
            let of_all = Scope::OfRoute(&route, &name);
            policies.push(Subject::Route(&route), of_all, limit(8, Fallback::Closed));
            let mut admitted = 0;
            for _ in 0..10 {
                let verdict = worker.admit(&policies).await;
                admitted += u32::from(matches!(verdict, Verdict::Admitted(_)));
            }
            admitted
        };
        assert_eq!((admitted("one").await, admitted("other").await), (5, 3));
        assert_eq!(admitted("third").await, 0);
        let refused = limiter.refusals();
        let of = |name: &str| {
            refused.iter().find(|(label, _)| **label == *name).map(|(_, counts)| *counts)
        };
        assert_eq!((of("key"), of("route:total")), (Some([5, 0]), Some([17, 0])));
    }
}

#[tokio::test]
async fn a_limit_in_shadow_mode_refuses_nobody_and_counts_whom_it_would() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("connected", || limiter.state() != State::Fallback).await;
        let name = id("trial");
        let trial = Limit { shadow: true, ..limit(3, Fallback::Closed) };
        let limits = [(Scope::Key, limit(8, Fallback::Closed)), (Scope::Plan(&name), trial)];
        let policies = of_key("k1", &limits);
        for request in 0..10 {
            match worker.admit(&policies).await {
                Verdict::Admitted(standings) => {
                    assert_eq!((standings.len(), request < 8), (1, true), "{standings:?}");
                }
                Verdict::Refused { .. } => assert!(request >= 8, "{request}"),
                Verdict::Unavailable => panic!("it is there"),
            }
        }
        assert_eq!(limiter.refusals(), [("key".into(), [2, 0]), ("trial".into(), [0, 5])]);
    }
}
