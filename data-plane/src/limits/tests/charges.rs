//! Requests that take more than one unit, at once or when they are over.

use std::num::NonZeroU32;

use super::*;

fn at<'a>(cost: &'a Cost, key: &'a str, limit: Limit) -> Policies<'a> {
    let mut policies = Policies::default();
    policies.push_at(cost, Subject::Key(key), Scope::Key, limit);
    policies
}

/// One that counts in Redis, and one that counts for itself.
async fn limiters(server: &Server) -> [Limiter; 2] {
    let limiters = [limiter(&server.url()), Limiter::new(&id("default"), None).expect("local")];
    for limiter in &limiters {
        limiter.set_node_count(1);
    }
    limiters
}

#[tokio::test]
async fn a_request_takes_as_many_units_as_it_costs() {
    let server = Server::start();
    let cost = Cost::Fixed(NonZeroU32::new(20).expect("a number"));
    for limiter in limiters(&server).await {
        let worker = limiter.for_worker();
        until("connected", || limiter.state() != State::Fallback).await;
        for (key, limit) in
            [("rate", limit(70, Fallback::Closed)), ("quota", quota(70, Calendar::Day))]
        {
            let mut remaining = Vec::new();
            for _ in 0..5 {
                match worker.admit(&at(&cost, key, limit)).await {
                    Verdict::Admitted(standings) => remaining.push(standings[0].remaining),
                    Verdict::Refused { standings, .. } => assert_eq!(standings[0].remaining, 0),
                    Verdict::Unavailable => panic!("it is there"),
                }
            }
            assert_eq!(remaining, [40, 20, 0], "{key}: ten are left, which are too few");
            // Another request may cost less.
            let one = worker.admit(&at(&Cost::ONE, key, limit)).await;
            assert!(matches!(one, Verdict::Admitted(_)), "{key}: {one:?}");
        }
    }
}

#[tokio::test]
async fn a_share_is_told_as_what_it_is_refilled_at() {
    let limiter = limiter("redis://127.0.0.1:1");
    let worker = limiter.for_worker();
    limiter.set_node_count(4);
    let three = Cost::Fixed(NonZeroU32::new(3).expect("a number"));
    for (key, burst, told) in
        [("whole", None, (15, 60)), ("few", Some(8), (15, 60)), ("one", Some(3), (15, 60))]
    {
        let rate = Rate::parse(60, Period::Minute, burst).expect("a rate");
        let measure = Measure::Tokens(Tokens::Rate(rate));
        let limit = Limit { measure, fallback: Fallback::LocalShare, shadow: false };
        let verdict = worker.admit(&at(&three, key, limit)).await;
        let Verdict::Admitted(standings) = verdict else { panic!("{key}: {verdict:?}") };
        assert_eq!((standings[0].quota, standings[0].window), (told.0, Some(told.1)), "{key}");
    }
    for (amount, told) in [(100, 24), (4, 3)] {
        let limit = quota(amount, Calendar::Day);
        let verdict = worker.admit(&at(&three, &amount.to_string(), limit)).await;
        let Verdict::Admitted(standings) = verdict else { panic!("{amount}: {verdict:?}") };
        assert_eq!(standings[0].quota, told, "of {amount}");
    }
}

#[tokio::test]
async fn what_a_request_turned_out_to_cost_is_missing_for_the_next_ones() {
    let server = Server::start();
    let cost = Cost::Charged(Charge::ResponseBytes);
    for limiter in limiters(&server).await {
        let workers = [limiter.for_worker(), limiter.for_worker()];
        until("connected", || limiter.state() != State::Fallback).await;
        let requests = async {
            for (key, limit) in
                [("rate", limit(1000, Fallback::Closed)), ("quota", quota(1000, Calendar::Month))]
            {
                let policies = at(&cost, key, limit);
                let mut admitted = 0;
                for _ in 0..5 {
                    if let Verdict::Admitted(_) = workers[0].admit(&policies).await {
                        admitted += 1;
                        let charges = workers[0].charges(&policies);
                        workers[0].charge(&charges, 7, 400);
                    }
                }
                assert_eq!(admitted, 3, "{key}: 200 were left for the third");
                // The other worker learns of it soon, and of the 200 that are owed.
                tokio::time::sleep(Duration::from_millis(300)).await;
                let verdict = workers[1].admit(&policies).await;
                let Verdict::Refused { retry_after, standings } = verdict else {
                    panic!("{key}: {verdict:?}")
                };
                let told = standings[0].reset.map(u64::from);
                assert_eq!(told, Some(retry_after.as_secs()), "{key}: {standings:?}");
                // 201 of 1,000 a minute take 12 seconds.
                let is_paid_soon = (11..=13).contains(&retry_after.as_secs());
                assert_eq!(key == "rate", is_paid_soon, "{key}: {retry_after:?}");
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(workers[0].give_back(), workers[1].give_back()) },
                if limiter.state() == State::Redis => {}
            () = requests => {}
        }
    }
}
