//! Tokens of quotas: no time makes up for one that is lost, nor for one that is counted twice.

use std::time::SystemTime;

use super::*;

/// Waits until no day or month begins or ends soon: in its first minute nothing is forgotten.
async fn amid_a_day() {
    loop {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        if (70..86_380).contains(&(now.as_secs() % 86_400)) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tokens taken of the quota of a key, as Redis has it.
fn taken(server: &Server, key: &str) -> u64 {
    let value: Option<String> =
        server.connection().get(format!("fg:rl:{{default:{key}}}:key")).expect("is asked");
    let value = value.expect("there is a quota");
    let (taken, _) = value.split_once('.').expect("as limit.lua has it");
    taken.parse().expect("a number")
}

async fn spend(worker: &WorkerLimiter, requests: u64, limit: Limit) {
    for _ in 0..requests {
        assert!(admits(worker, "k1", limit).await);
    }
}

async fn is_back(limiter: &Limiter) {
    until("redis is there", || limiter.state() == State::Redis).await;
}

#[tokio::test]
async fn workers_that_leave_give_back_what_they_hold() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    for round in 1..=3 {
        let workers = [limiter.for_worker(), limiter.for_worker()];
        is_back(&limiter).await;
        for worker in &workers {
            spend(worker, 10, quota(1000, Calendar::Month)).await;
        }
        assert!(taken(&server, "k1") > 20 * round, "they hold some");
        for worker in workers {
            worker.leave().await;
        }
        assert_eq!(taken(&server, "k1"), 20 * round);
    }
}

#[tokio::test]
async fn a_limit_that_is_changed_keeps_what_is_left_of_it() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    is_back(&limiter).await;
    for (amount, spent) in [(1000, 5), (1001, 10), (500, 15), (1000, 20)] {
        spend(&worker, 5, quota(amount, Calendar::Day)).await;
        assert!((spent..=spent + 16).contains(&taken(&server, "k1")), "{amount}");
    }
    worker.leave().await;
    assert_eq!(taken(&server, "k1"), 20);
}

#[tokio::test]
async fn a_quota_that_is_lowered_and_raised_again_knows_what_was_used() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    is_back(&limiter).await;
    spend(&worker, 800, quota(1000, Calendar::Day)).await;
    for _ in 0..10 {
        assert!(!admits(&worker, "k1", quota(500, Calendar::Day)).await);
    }
    let mut more = 0;
    while admits(&worker, "k1", quota(1000, Calendar::Day)).await {
        more += 1;
    }
    assert_eq!(more, 200);
}

#[tokio::test]
async fn a_redis_that_is_back_with_an_older_value_hears_what_everybody_saw() {
    amid_a_day().await;
    let server = Server::start();
    let limiter = limiter(&server.url());
    let mut forgotten = limiter.forgotten().expect("nobody looks after them");
    let workers = [limiter.for_worker(), limiter.for_worker()];
    let limit = quota(1000, Calendar::Month);
    is_back(&limiter).await;
    spend(&workers[0], 100, limit).await;
    let found = forgotten.try_recv().expect("nobody told yet");
    limiter.recall(&found, 100, ends_in(&found)).await.expect("tells");
    drop(found);
    spend(&workers[0], 1, limit).await;
    workers[0].leave().await;
    let name = "fg:rl:{default:k1}:key";
    let old: String = server.connection().get(name).expect("reads");
    spend(&workers[0], 100, limit).await;
    spend(&workers[1], 600, limit).await;
    workers[1].leave().await;

    // As after a failover to one that had not heard of the last second.
    let _: () = server.connection().set(name, &old).expect("writes");
    let _: u64 = server.admin("CLIENT KILL TYPE normal");
    until("redis is away", || limiter.state() != State::Redis).await;
    is_back(&limiter).await;
    spend(&workers[0], 1, limit).await;
    assert!(forgotten.try_recv().is_ok(), "what is stored is to be told anew");
    spend(&workers[1], 1, limit).await;
    let taken = taken(&server, "k1");
    assert!((802..900).contains(&taken), "{taken}");
}

#[tokio::test]
async fn another_connection_loses_nothing_and_an_empty_redis_hears_what_was_spent() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    let limit = quota(1000, Calendar::Month);
    is_back(&limiter).await;
    for (spent, empties) in [(10, false), (20, false), (30, true), (40, false)] {
        spend(&worker, 10, limit).await;
        if empties {
            let _: () = server.admin("FLUSHALL");
        }
        let _: u64 = server.admin("CLIENT KILL TYPE normal");
        until("redis is away", || limiter.state() != State::Redis).await;
        is_back(&limiter).await;
        spend(&worker, 1, limit).await;
        worker.leave().await;
        let spent = spent + spent / 10;
        assert_eq!(taken(&server, "k1"), spent, "emptied: {empties}");
    }
}

#[tokio::test]
async fn what_was_spent_without_redis_is_told_though_no_request_comes() {
    let mut server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    is_back(&limiter).await;
    server.kill();
    until("redis is away", || limiter.state() != State::Redis).await;
    spend(&worker, 7, quota(1000, Calendar::Day)).await;
    let server = Server::start_on(server.port);
    is_back(&limiter).await;
    tokio::select! {
        () = worker.give_back() => unreachable!("it runs for ever"),
        () = until("it is told", || {
            let keys: Vec<String> = server.connection().keys("*").expect("lists");
            keys.iter().any(|key| key.contains("k1"))
        }) => {}
    }
    assert_eq!(taken(&server, "k1"), 7);
}

#[tokio::test]
async fn what_was_spent_without_redis_and_is_stored_is_counted_once() {
    amid_a_day().await;
    let mut server = Server::start();
    let limiter = limiter(&server.url());
    let mut forgotten = limiter.forgotten().expect("nobody looks after them");
    let workers = [limiter.for_worker(), limiter.for_worker(), limiter.for_worker()];
    let limit = quota(1000, Calendar::Day);
    is_back(&limiter).await;
    server.kill();
    until("redis is away", || limiter.state() != State::Redis).await;
    for worker in &workers {
        spend(worker, 100, limit).await;
    }
    let server = Server::start_on(server.port);
    is_back(&limiter).await;

    // One tells what it spent, and of 50 more that a node that is gone spent the audit log knows.
    spend(&workers[0], 1, limit).await;
    let quota = forgotten.try_recv().expect("nobody told yet");
    assert_eq!((taken(&server, "k1"), quota.settles_in), (116, Duration::ZERO));
    limiter.recall(&quota, 350, ends_in(&quota)).await.expect("tells");
    drop(quota);
    assert_eq!(taken(&server, "k1"), 350);

    // The others are among those 350.
    for worker in &workers[1..] {
        spend(worker, 1, limit).await;
        let quota = forgotten.try_recv().expect("to be told anew");
        assert!(quota.settles_in > Duration::ZERO, "their events may be on the way");
        limiter.recall(&quota, 352, ends_in(&quota)).await.expect("tells");
    }
    for worker in &workers {
        worker.leave().await;
    }
    assert_eq!(
        taken(&server, "k1"),
        352,
        "what was granted before the 350 were told is not in them"
    );

    // Spent since, it is added.
    let before = taken(&server, "k1");
    server.signal("-STOP");
    until("redis is away", || limiter.state() != State::Redis).await;
    spend(&workers[1], 10, limit).await;
    server.signal("-CONT");
    is_back(&limiter).await;
    workers[1].leave().await;
    assert_eq!(taken(&server, "k1"), before + 10);
    assert!(forgotten.try_recv().is_err(), "what is known is known");
}

#[tokio::test]
async fn what_waits_for_a_redis_that_is_away_is_bounded() {
    let limiter = limiter(&format!("redis://127.0.0.1:{}", servers::free_port()));
    let worker = limiter.for_worker();
    for key in 0..100_000 {
        assert!(admits(&worker, &key.to_string(), quota(10, Calendar::Day)).await);
    }
    let listed = worker.leases.as_ref().expect("there is a Redis").listed();
    assert!((10_000..=1 << 16).contains(&listed), "{listed}");
}

#[tokio::test]
async fn requests_that_another_limit_refuses_take_nothing_of_a_quota_that_is_nearly_used_up() {
    let server = Server::start();
    let nodes: Vec<_> = (0..5).map(|_| limiter(&server.url())).collect();
    for node in &nodes {
        node.set_node_count(5);
    }
    let workers: Vec<_> = nodes.iter().map(Limiter::for_worker).collect();
    until("all are connected", || nodes.iter().all(|n| n.state() == State::Redis)).await;
    let requests = async {
        // Of a rate it is asked first; of what is asked of a quota, the last ones are back soon.
        for (route, total, is_back_in) in [
            (id("rate"), limit(1, Fallback::Closed), Duration::ZERO),
            (id("quota"), quota(1, Calendar::Day), Duration::from_millis(500)),
        ] {
            let (key, name) = (route.as_str(), id("total"));
            let mut both = of_key(key, &[(Scope::Key, quota(4, Calendar::Day))]);
            let mut of_all = Policies::default();
            for policies in [&mut both, &mut of_all] {
                policies.push(Subject::Route(&route), Scope::OfRoute(&route, &name), total);
            }
            assert!(matches!(workers[0].admit(&of_all).await, Verdict::Admitted(_)));
            for worker in &workers {
                for _ in 0..10 {
                    let verdict = worker.admit(&both).await;
                    assert!(matches!(verdict, Verdict::Refused { .. }), "{key}: {verdict:?}");
                }
            }
            tokio::time::sleep(is_back_in).await;
            let mut admitted = 0;
            for _ in 0..5 {
                admitted += u32::from(admits(&workers[1], key, quota(4, Calendar::Day)).await);
            }
            assert_eq!(admitted, 4, "{key}");
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(workers.iter().map(WorkerLimiter::give_back)) => {}
        () = requests => {}
    }
}

/// As a control plane says it whose clock is Redis's.
fn ends_in(quota: &Forgotten) -> Duration {
    quota.ends.saturating_duration_since(Instant::now())
}
