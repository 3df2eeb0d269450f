//! Limits that people make full again: requests are counted in other buckets from then on.

use std::num::NonZeroU64;

use fastgate::model::Calendar;

use super::{
    id, limiter, quota,
    servers::{Server, free_port},
    until,
};
use crate::limits::{Limiter, Policies, Scope, State, Subject, Verdict, WorkerLimiter};

/// The key `k1` after its limits were reset so often.
fn after(resets: u64) -> Subject<'static> {
    Subject::of_key("k1", NonZeroU64::new(resets))
}

/// How many of ten requests are admitted, of five a month.
async fn admitted(worker: &WorkerLimiter, subject: Subject<'_>, scope: Scope<'_>) -> u32 {
    let mut policies = Policies::default();
    policies.push(subject, scope, quota(5, Calendar::Month));
    let mut admitted = 0;
    for _ in 0..10 {
        let verdict = worker.admit(&policies).await;
        admitted += u32::from(matches!(verdict, Verdict::Admitted(_)));
    }
    admitted
}

#[test]
fn buckets_of_a_key_are_named_after_its_last_reset() {
    let (environment, name) = (id("default"), id("r"));
    let bucket = |scope: Scope<'_>, subject| scope.bucket(&environment, subject);
    for (scope, policy) in [
        (Scope::Key, "key"),
        (Scope::Plan(&name), "plan:r"),
        (Scope::Route(&name), "route:r"),
        (Scope::OfRoute(&name, &name), "route:r:r"),
    ] {
        assert_eq!(bucket(scope, after(0)), format!("fg:rl:{{default:k1}}:{policy}"));
        assert_eq!(bucket(scope, after(7)), format!("fg:rl:{{default:k1}}:since:7:{policy}"));
        let slots = format!("fg:rl:{{default:k1}}:{policy}:slots");
        assert_eq!(scope.slots(&environment, after(7)), slots);
    }
}

#[tokio::test]
async fn a_key_begins_anew_with_each_reset_in_all_that_counts_it_alone() {
    let server = Server::start();
    let (route, name) = (id("orders"), id("daily"));
    for limiter in [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")] {
        let worker = limiter.for_worker();
        until("is connected", || limiter.state() != State::Fallback).await;
        for scope in
            [Scope::Key, Scope::Plan(&name), Scope::Route(&route), Scope::OfRoute(&route, &name)]
        {
            for resets in 0..3 {
                let anew = admitted(&worker, after(resets), scope).await;
                let more = admitted(&worker, after(resets), scope).await;
                assert_eq!((anew, more), (5, 0), "{scope:?} after {resets}");
            }
            // Whoever is asked by an older snapshot still finds what is used up there.
            assert_eq!(admitted(&worker, after(1), scope).await, 0, "{scope:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_while_redis_is_away_holds_when_it_is_back() {
    let port = free_port();
    let mut server = Server::start_on(port);
    let limiter = limiter(&server.url());
    limiter.set_node_count(1);
    let worker = limiter.for_worker();
    until("is connected", || limiter.state() == State::Redis).await;
    assert_eq!(admitted(&worker, after(0), Scope::Key).await, 5);
    server.kill();
    until("is away", || limiter.state() == State::Fallback).await;
    assert_eq!(admitted(&worker, after(0), Scope::Key).await, 0);
    assert_eq!(admitted(&worker, after(1), Scope::Key).await, 5);
    let _server = Server::start_on(port);
    until("is back", || limiter.state() == State::Redis).await;
    assert_eq!(admitted(&worker, after(1), Scope::Key).await, 0, "what was used since is told");
    assert_eq!(admitted(&worker, after(2), Scope::Key).await, 5);
    assert_eq!(admitted(&worker, after(0), Scope::Key).await, 0, "and what was used before");
}

#[tokio::test]
async fn what_another_node_knows_from_before_says_nothing_after_a_reset() {
    let server = Server::start();
    let nodes = [limiter(&server.url()), limiter(&server.url())];
    for node in &nodes {
        node.set_node_count(2);
    }
    let workers = nodes.each_ref().map(Limiter::for_worker);
    let are_connected = || nodes.iter().all(|node| node.state() == State::Redis);
    until("both are connected", are_connected).await;
    for worker in &workers {
        admitted(worker, after(0), Scope::Key).await;
    }
    // A Redis that comes back empty is told by the second node what it saw before.
    let _: () = server.admin("FLUSHALL");
    let _: u64 = server.admin("CLIENT KILL TYPE normal");
    until("it is away", || !are_connected()).await;
    until("both are connected again", are_connected).await;
    assert_eq!(admitted(&workers[1], after(0), Scope::Key).await, 0);
    assert_eq!(admitted(&workers[0], after(1), Scope::Key).await, 5);
    assert_eq!(admitted(&workers[1], after(1), Scope::Key).await, 0);
}
