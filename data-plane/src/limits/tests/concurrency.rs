//! Limits of requests under way.

use std::num::{NonZeroU32, NonZeroU64};

use super::*;

fn at_a_time(most: u32, fallback: Fallback) -> Policies<'static> {
    let measure = Measure::Concurrent(NonZeroU32::new(most).expect("a number"));
    of_key("k1", &[(Scope::Key, Limit { measure, fallback, shadow: false })])
}

/// What a worker does beside its requests.
fn look_after(workers: &[WorkerLimiter]) -> impl Future<Output = Vec<()>> + use<> {
    futures_util::future::join_all(workers.iter().map(WorkerLimiter::give_back).collect::<Vec<_>>())
}

async fn connected(nodes: &[Limiter]) {
    until("all are connected", || nodes.iter().all(|node| node.state() != State::Fallback)).await;
}

#[tokio::test]
async fn nodes_share_what_may_be_under_way() {
    let server = Server::start();
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    connected(&nodes).await;
    let policies = at_a_time(5, Fallback::Closed);
    let requests = async {
        let mut under_way = Vec::new();
        for request in 0..5 {
            under_way.push(workers[request % 2].enter(&policies).await.expect("there is room"));
        }
        for worker in &workers {
            let refused = worker.enter(&policies).await.err().expect("there is none");
            let Verdict::Refused { standings, .. } = refused else { panic!("{refused:?}") };
            assert_eq!((standings[0].quota, standings[0].remaining), (5, 0));
        }
        // One of the first node's ends; the second one gets its place.
        under_way.remove(0);
        under_way.push(workers[1].enter(&policies).await.expect("there is room again"));
        under_way.clear();
        let keys = || -> Vec<String> { server.connection().keys("*").expect("lists") };
        until("all is given back", || keys().is_empty()).await;
    };
    tokio::select! {
        _ = look_after(&workers) => {}
        () = requests => {}
    }
}

#[tokio::test]
async fn one_after_the_other_is_never_too_many() {
    let server = Server::start();
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    connected(&nodes).await;
    let policies = at_a_time(1, Fallback::Closed);
    let requests = async {
        for request in 0..30 {
            let slot = workers[request % 2].enter(&policies).await;
            assert!(slot.is_ok(), "request {request}");
        }
    };
    tokio::select! {
        _ = look_after(&workers) => {}
        () = requests => {}
    }
}

#[tokio::test]
async fn without_redis_each_node_counts_its_own() {
    let alone = Limiter::new(&id("default"), None).expect("local");
    let workers = [alone.for_worker(), alone.for_worker()];
    let policies = at_a_time(2, Fallback::Closed);
    let one = workers[0].enter(&policies).await.expect("there is room");
    let _two = workers[1].enter(&policies).await.expect("there is room");
    assert!(workers[0].enter(&policies).await.is_err(), "both workers are of one node");
    drop(one);
    assert!(workers[1].enter(&policies).await.is_ok());

    // Nothing listens there.
    let away = limiter("redis://127.0.0.1:1");
    away.set_node_count(2);
    let worker = away.for_worker();
    let of = |fallback| at_a_time(4, fallback);
    assert!(matches!(worker.enter(&of(Fallback::Closed)).await, Err(Verdict::Unavailable)));
    let share = of(Fallback::LocalShare);
    let held = [worker.enter(&share).await, worker.enter(&share).await];
    assert!(held.iter().all(Result::is_ok), "half of four");
    assert!(matches!(worker.enter(&share).await, Err(Verdict::Refused { .. })));
    assert!(worker.enter(&of(Fallback::Open)).await.is_ok());
}

#[tokio::test]
async fn what_is_under_way_is_counted_again_when_redis_is_back() {
    let server = Server::start();
    let port = server.port;
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    for node in &nodes {
        node.set_node_count(2);
    }
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    connected(&nodes).await;
    let policies = at_a_time(3, Fallback::LocalShare);
    let requests = async {
        let _one = workers[0].enter(&policies).await.expect("there is room");
        drop(server);
        until("noticed", || nodes.iter().all(|node| node.state() == State::Fallback)).await;
        assert!(workers[0].enter(&policies).await.is_err(), "its share is one, which is taken");
        let _two = workers[1].enter(&policies).await.expect("there is room");
        let _server = Server::start_on(port);
        connected(&nodes).await;
        let redis = &_server;
        until("both are told", || {
            let value: Option<String> =
                redis.connection().get("fg:rl:{default:k1}:key:slots").expect("reads");
            value.is_some_and(|value| value.matches(';').count() == 2)
        })
        .await;
        let _three = workers[0].enter(&policies).await.expect("there is room for one");
        assert!(workers[1].enter(&policies).await.is_err(), "three are under way");
    };
    tokio::select! {
        _ = look_after(&workers) => {}
        () = requests => {}
    }
}

#[test]
fn slots_of_a_holder_that_died_are_there_again() {
    let server = Server::start();
    let mut redis = server.connection();
    let script = Script::new(include_str!("../slots.lua"));
    let mut ask = |holder: u64, want: u64, life: u64| -> u64 {
        let mut call = script.prepare_invoke();
        call.key("k").arg(holder).arg(10).arg(want).arg(life);
        call.invoke(&mut redis).expect("the script runs")
    };
    assert_eq!(ask(1, 7, 100), 7);
    assert_eq!(ask(2, 7, 10_000), 3);
    assert_eq!(ask(1, 2, 100), 2, "what is given back");
    assert_eq!(ask(2, 7, 10_000), 7, "is there for others");
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(ask(2, 12, 10_000), 10, "and so is what nobody asked for again");
    assert_eq!(ask(2, 0, 10_000), 0);
    assert!(!redis.exists::<_, bool>("k").expect("asks"));
}

#[tokio::test]
async fn what_is_under_way_is_so_after_a_reset() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        connected(std::slice::from_ref(&limiter)).await;
        let measure = Measure::Concurrent(NonZeroU32::new(2).expect("a number"));
        let two = Limit { measure, fallback: Fallback::Closed, shadow: false };
        let after = |resets| {
            let mut policies = Policies::default();
            policies.push(Subject::of_key("k1", NonZeroU64::new(resets)), Scope::Key, two);
            policies
        };
        let (before, after) = (after(0), after(1));
        let _one = worker.enter(&before).await.expect("there is room");
        let _two = worker.enter(&after).await.expect("there is room for one");
        assert!(worker.enter(&after).await.is_err() && worker.enter(&before).await.is_err());
    }
}

#[tokio::test]
async fn a_look_counts_slots_as_requests_do() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let _worker = limiter.for_worker();
    connected(std::slice::from_ref(&limiter)).await;
    let measure = Measure::Concurrent(NonZeroU32::new(9).expect("a number"));
    let nine = Limit { measure, fallback: Fallback::Closed, shadow: false };
    let look = async || {
        let mut inspection = limiter.inspect();
        inspection.add(Subject::Key("k1"), Scope::Key, nine, &Cost::ONE);
        inspection.look().await.expect("looks").first().expect("one limit").remaining
    };
    let mut redis = server.connection();
    let slots = "fg:rl:{default:k1}:key:slots";
    assert_eq!(look().await, 9);
    // One holder's time is over.
    redis.set::<_, _, ()>(slots, "1 2 9999999999999;2 4 1700000000000;").expect("writes");
    assert_eq!(look().await, 7);
    assert_eq!(redis.get::<_, String>(slots).expect("reads").len(), 36, "a look changes nothing");
    redis.del::<_, ()>(slots).expect("deletes");
    redis.lpush::<_, _, ()>(slots, "of another type").expect("writes");
    assert_eq!(look().await, 9);
}
