//! Requests whose clients go away while they wait for Redis.

use std::{net::Ipv6Addr, pin::pin};

use super::*;

/// Begins to ask and goes away. False: there was nothing to wait for.
fn gives_up(worker: &WorkerLimiter, policies: &Policies<'_>) -> bool {
    pin!(worker.admit(policies)).now_or_never().is_none()
}

#[tokio::test]
async fn addresses_that_give_up_take_no_memory_for_good() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    let limit = limit(60, Fallback::LocalShare);
    let mut given_up = 0;
    for address in 0..20_000_u128 {
        if address % 50 == 0 {
            // Behind this one all of them are answered. On a busy machine Redis may seem away.
            until("connected", || limiter.state() == State::Redis).await;
            assert!(admits(&worker, &address.to_string(), limit).await);
        }
        let mut policies = Policies::default();
        let subject = Subject::Address(Ipv6Addr::from(address << 64).into());
        policies.push(subject, Scope::Key, limit);
        given_up += u64::from(gives_up(&worker, &policies));
    }
    assert!(given_up > 10_000, "{given_up}");
    let kept = worker.places.of_addresses();
    assert!((1000..=2 * 4096).contains(&kept), "{kept}");
}

#[tokio::test]
async fn tokens_of_a_quota_that_came_for_nobody_are_given_back() {
    let server = Server::start();
    let limiter = limiter(&server.url());
    let worker = limiter.for_worker();
    until("connected", || limiter.state() == State::Redis).await;
    let limit = quota(1000, Calendar::Month);
    assert!(gives_up(&worker, &of_key("k1", &[(Scope::Key, limit)])));
    worker.leave().await;
    let value: String = server.connection().get("fg:rl:{default:k1}:key").expect("was asked");
    assert!(value.starts_with("0."), "{value}");
}
