//! Limits that people make full again.

use std::time::Duration;

use fastgate::model::{Calendar, Cost, Limit};

use super::{admits, id, limiter, quota, servers::Server, until};
use crate::limits::{Limiter, Scope, State, Subject};

async fn reset(limiter: &Limiter, limit: Limit) -> u64 {
    let mut inspection = limiter.inspect();
    inspection.add(Subject::Key("k1"), Scope::Key, limit, &Cost::ONE);
    let found = inspection.reset_and_look().await.expect("looks");
    found.first().expect("one limit").remaining
}

#[tokio::test]
async fn a_reset_holds_though_redis_comes_back_empty() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("is connected", || limiter.state() == State::Redis).await;
    let limit = quota(5, Calendar::Month);
    let admitted = async || {
        let mut admitted = 0;
        for _ in 0..10 {
            admitted += u64::from(admits(&worker, "k1", limit).await);
        }
        admitted
    };
    assert_eq!(admitted().await, 5);
    assert_eq!(reset(&limiter, limit).await, 5);
    let killed: u64 = {
        let _: () = server.admin("FLUSHALL");
        server.admin("CLIENT KILL TYPE normal")
    };
    assert!(killed > 0);
    until("is away", || limiter.state() != State::Redis).await;
    until("is back", || limiter.state() == State::Redis).await;
    assert_eq!(admitted().await, 5, "what was spent before the reset is told to nobody");
}

#[tokio::test]
async fn a_reset_is_in_force_with_the_next_request() {
    let server = Server::start();
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("is connected", || limiter.state() != State::Fallback).await;
        let limit = quota(2, Calendar::Month);
        while admits(&worker, "k1", limit).await {}
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!admits(&worker, "k1", limit).await);
        assert_eq!(reset(&limiter, limit).await, 2);
        assert!(admits(&worker, "k1", limit).await);
    }
}
