//! Redis with others that take over: sentinels, and a cluster.

use std::time::{Duration, Instant};

use fastgate::model::{Fallback, Limit};

use super::{
    admits, id, limit, limiter,
    log::Log,
    of_key,
    servers::{Cluster, Server, eventually, free_port},
    until,
};
use crate::limits::{Limiter, Scope, State, Verdict, WorkerLimiter};

/// Sixty a minute, and none without Redis.
fn sixty() -> Limit {
    limit(60, Fallback::Closed)
}

/// Asks until so many are admitted, or one is refused, and counts the former. Where Redis stands
/// still for a moment, on a busy machine, it waits.
async fn admitted(limiter: &Limiter, worker: &WorkerLimiter, key: &str, most: u64) -> u64 {
    let policies = of_key(key, &[(Scope::Key, sixty())]);
    let mut admitted = 0;
    let patience = Instant::now() + Duration::from_secs(10);
    while admitted < most {
        assert!(Instant::now() < patience, "redis is away again and again");
        until("redis is there", || limiter.state() == State::Redis).await;
        match worker.admit(&policies).await {
            Verdict::Admitted(_) => admitted += 1,
            Verdict::Refused { .. } => break,
            Verdict::Unavailable => {}
        }
    }
    admitted
}

/// A bucket counted once. What was granted while Redis stood still may be lost.
fn is_one_bucket(admitted: u64, since: Instant) -> bool {
    (50..=60 + since.elapsed().as_secs()).contains(&admitted)
}

#[tokio::test]
async fn the_master_sentinels_name_is_followed_and_its_count_goes_on() {
    let mut master = Server::start();
    let replica =
        Server::start_with(free_port(), &format!("--replicaof 127.0.0.1 {}", master.port));
    eventually("the replica is in step", || {
        replica.admin::<String>("INFO replication").contains("master_link_status:up")
    });
    let sentinel = Server::start_sentinel(free_port(), master.port, "");
    eventually("the sentinel knows the replica", || {
        sentinel.admin::<String>("INFO sentinel").contains("slaves=1")
    });
    // The first sentinel is down.
    let (down, up) = (free_port(), sentinel.port);
    let url =
        format!("redis+sentinel://fastgate:choose-one@127.0.0.1:{down},127.0.0.1:{up}/mymaster");
    let limiter = limiter(&url);
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let start = Instant::now();
    let before = admitted(&limiter, &worker, "k1", 20).await;
    assert_eq!(before, 20);
    eventually("the replica has it", || replica.admin::<u64>("EXISTS fg:rl:{default:k1}:key") == 1);

    master.kill();
    until("noticed", || limiter.state() == State::Fallback).await;
    until("the new master is found", || limiter.state() == State::Redis).await;
    assert!(replica.admin::<String>("INFO replication").contains("role:master"));
    let all = before + admitted(&limiter, &worker, "k1", 80).await;
    assert!(is_one_bucket(all, start), "{all}");
}

#[tokio::test]
async fn a_cluster_counts_on_all_masters_and_through_the_death_of_one() {
    let mut cluster = Cluster::start();
    let limiter = limiter(&cluster.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    for number in 0..30 {
        let key = format!("all{number}");
        assert!(admits(&worker, &key, limit(1, Fallback::LocalShare)).await, "{key}");
        assert!(!admits(&worker, &key, limit(1, Fallback::LocalShare)).await, "{key}");
    }
    let held = |at: usize| cluster.0[at].admin::<Vec<String>>("KEYS fg:rl:{default:all*").len();
    let held = [held(0), held(1), held(2)];
    assert!(!held.contains(&0), "{held:?}");

    // Masters that never saw the script.
    for server in &cluster.0[..3] {
        server.admin::<()>("SCRIPT FLUSH");
    }
    let key = cluster.key_of_first();
    let start = Instant::now();
    let before = admitted(&limiter, &worker, &key, 20).await;
    assert_eq!(before, 20);
    eventually("the replica has it", || {
        let name = format!("fg:rl:{{default:{key}}}:key");
        cluster.0[3].admin::<Vec<String>>("KEYS *").contains(&name)
    });

    cluster.0[0].kill();
    while limiter.state() == State::Redis {
        assert!(!admits(&worker, &key, sixty()).await, "by nobody");
    }
    until("counted again", || limiter.state() == State::Redis).await;
    assert!(cluster.0[3].admin::<String>("INFO replication").contains("role:master"));
    let all = before + admitted(&limiter, &worker, &key, 80).await;
    assert!(is_one_bucket(all, start), "{all}");
}

#[tokio::test]
async fn buckets_on_their_way_to_another_master_are_counted_once() {
    let cluster = Cluster::start();
    {
        let (log, _guard) = Log::begin();
        let limiter = limiter(&cluster.0[0].url());
        let _worker = limiter.for_worker();
        until("is found out", || !log.lines().is_empty()).await;
        let lines = log.lines();
        assert!(lines[0].contains("begin --redis-url with redis+cluster"), "{lines:?}");
        assert_eq!(limiter.state(), State::Fallback);
    }
    let (log, _guard) = Log::begin();
    let limiter = limiter(&cluster.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let key = cluster.key_of_first();
    let (slot, from, to) = (cluster.slot_of(&key), cluster.id_of(0), cluster.id_of(1));
    let (source, target) = (&cluster.0[0], &cluster.0[1]);
    let start = Instant::now();
    let mut all = admitted(&limiter, &worker, &key, 20).await;
    assert_eq!(all, 20);

    target.admin::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    source.admin::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    // One bucket is here, the other would be there: neither server can say anything, and only
    // this request does without them.
    let route = id("r1");
    let open = limit(60, Fallback::Open);
    let limits = [(Scope::Key, limit(60, Fallback::LocalShare)), (Scope::Route(&route), open)];
    let both = of_key(&key, &limits);
    let verdict = worker.admit(&both).await;
    assert!(matches!(verdict, Verdict::Admitted(_)), "{verdict:?}");
    all += 1;

    let name = format!("fg:rl:{{default:{key}}}:key");
    source.admin::<()>(&format!("MIGRATE 127.0.0.1 {} {name} 0 5000", target.port));
    all += admitted(&limiter, &worker, &key, 20).await;
    for server in [target, source, &cluster.0[2]] {
        server.admin::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
    }
    all += admitted(&limiter, &worker, &key, 80).await;
    assert!(is_one_bucket(all, start), "{all}");
    // That of the route is there too, if the request held a token of the key.
    assert_eq!(target.admin::<Vec<String>>("KEYS fg:rl:*:key"), [name]);
    // Redis was never away for what a server said.
    let lines = log.lines();
    let is_fault = |line: &&String| line.contains("away") && !line.contains("too long to answer");
    assert_eq!(lines.iter().find(is_fault), None);
}
