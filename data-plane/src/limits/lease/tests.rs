//! What a lease must do by itself, at times that are said.

use fastgate::model::{Calendar, Cost, Quota, Tokens};

use super::*;
use crate::limits::mirror::{self, Kept};

const ALONE: Crowd = Crowd { nodes: 1, workers: 1 };

/// 10,000 a second, 10 seconds of them at once.
fn bucket() -> Bucket {
    Bucket::steady(100_000, 100_000)
}

fn lease() -> Lease {
    let mut lease = Lease::new(bucket());
    lease.follow(bucket(), 1);
    lease
}

fn grant(lease: &mut Lease, tokens: u64, now: u64, crowd: Crowd) {
    let ask = Ask { want: tokens, ..lease.settle(now) };
    let taken = tokens * bucket().interval;
    let grant = Grant { tokens, taken, ..Grant::default() };
    lease.take((&ask, &grant), (1, now, now + MILLISECOND), crowd);
}

fn spendable(lease: &mut Lease, now: u64) -> u64 {
    lease.stock(now);
    lease.held()
}

#[test]
fn a_token_is_void_80_ms_after_it_was_asked_for() {
    let mut lease = lease();
    grant(&mut lease, 1000, MILLISECOND, ALONE);
    assert_eq!(spendable(&mut lease, 81 * MILLISECOND - 1), 1000);
    assert_eq!(spendable(&mut lease, 81 * MILLISECOND), 0);
    assert_eq!((lease.back.tokens, lease.is_due()), (1000, true));
}

#[test]
fn few_tokens_are_held_for_long_and_never_more() {
    // 10 ms of the rate are 100 tokens, over all workers.
    for (crowd, few) in
        [(ALONE, 100), (Crowd { nodes: 4, workers: 5 }, 5), (Crowd { nodes: 0, workers: 1 }, 0)]
    {
        let mut lease = lease();
        grant(&mut lease, few + 1, 0, crowd);
        assert_eq!(spendable(&mut lease, SHORT), 0, "{crowd:?}");
        grant(&mut lease, few, SHORT, crowd);
        assert_eq!(spendable(&mut lease, SHORT + LONG - 1), few, "{crowd:?}");
        grant(&mut lease, 1, SHORT + LONG - 1, crowd);
        assert_eq!(spendable(&mut lease, SHORT + LONG), 1, "{crowd:?}");
        assert_eq!(spendable(&mut lease, LONG + 2 * SHORT), 0, "{crowd:?}");
    }
}

#[test]
fn it_asks_for_what_is_needed_and_leaves_half_a_burst_to_others() {
    let mut lease = lease();
    let crowd = Crowd { nodes: 0, workers: 1 };
    let (mut now, mut sizes) = (MILLISECOND, Vec::new());
    for _ in 0..12 {
        let ask = lease.ask(now, 1, crowd);
        sizes.push(ask.want);
        grant(&mut lease, ask.want, now, crowd);
        for _ in 0..ask.want {
            lease.spend();
            now += 200_000;
        }
    }
    // 5,000 requests a second are 200 in 40 ms.
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 200, 200, 200, 200]);
    let largest = |nodes, workers| Crowd { nodes, workers }.largest(bucket(), 0);
    assert_eq!((largest(1, 1), largest(16, 4), largest(1000, 60)), (1000, 781, 1));
}

#[test]
fn a_key_that_comes_a_few_times_takes_one_call() {
    let mut lease = lease();
    let ask = lease.ask(MILLISECOND, 1, ALONE);
    assert_eq!(ask.want, FIRST);
    grant(&mut lease, ask.want, MILLISECOND, ALONE);
    assert_eq!(spendable(&mut lease, LONG), FIRST);
    assert_eq!(spendable(&mut lease, LONG + MILLISECOND), 0);
    assert!(!lease.has_business(), "so few are not worth a call of their own");
    assert_eq!(lease.settle(LONG + MILLISECOND).back.tokens, FIRST, "but are not forgotten");
}

#[test]
fn a_bucket_found_empty_is_left_alone_for_a_while() {
    let mut lease = lease();
    let ask = lease.ask(0, 1, ALONE);
    let grant = Grant { tokens: 0, taken: bucket().capacity, ..Grant::default() };
    lease.take((&ask, &grant), (1, 0, MILLISECOND), ALONE);
    assert_eq!(lease.stock(MILLISECOND + PAUSE - 1), Stock::Empty);
    assert_eq!(bucket().free(lease.level(MILLISECOND + PAUSE - 1).taken), 0, "as it is refused");
    assert_eq!(lease.stock(MILLISECOND + PAUSE), Stock::Unknown);
    assert!(bucket().free(lease.level(MILLISECOND + PAUSE).taken) > 0);
}

/// What Redis says of an ask that was sent at `now`, where so much is taken.
fn hear(lease: &mut Lease, (tokens, taken): (u64, u64), now: u64) {
    let ask = lease.settle(now);
    let grant = Grant { tokens, taken, ..Grant::default() };
    lease.take((&ask, &grant), (1, now, now + MILLISECOND), ALONE);
}

#[test]
fn who_is_refused_though_there_may_be_a_token_is_one_of_many() {
    let (mut lease, full) = (lease(), bucket().capacity);
    let again = MILLISECOND + PAUSE;
    hear(&mut lease, (0, full), 0);
    assert_eq!(lease.stock(again), Stock::Unknown);
    assert!(!lease.puts_off(again, MILLISECOND), "nobody was refused");
    lease.refuse(again - 1);
    assert!(lease.puts_off(again, MILLISECOND));
    assert_eq!(lease.stock(again + MILLISECOND), Stock::Empty, "until the answer is there");
    assert_eq!(lease.stock(again + 2 * MILLISECOND), Stock::Unknown, "or is late");
    assert!(!lease.puts_off(again + OVERLOAD, MILLISECOND), "who was refused does not come back");
    hear(&mut lease, (1, full / 2), again);
    assert_eq!(lease.stock(again + MILLISECOND), Stock::Held);
    lease.spend();
    assert!(!lease.puts_off(again + MILLISECOND, MILLISECOND), "it is empty no more");
}

#[test]
fn few_are_fetched_ahead_where_they_come_to_be_spent() {
    let crowd = Crowd { nodes: 20, workers: 10 };
    for (every, are_wanted) in [(SHORT / 2, true), (SHORT - 1, true), (SHORT + 1, false)] {
        let (mut lease, mut now) = (lease(), MILLISECOND);
        for _ in 0..4 {
            let ask = lease.ask(now, 1, crowd);
            assert_eq!(ask.want, 1);
            hear(&mut lease, (1, 0), now);
            lease.spend();
            now += every;
        }
        assert!(!lease.runs_low(now), "of a Redis that is near");
        assert_eq!(lease.runs_low_of_few(now, crowd), are_wanted, "every {every} ns");
        let alone = lease.runs_low_of_few(now, ALONE);
        assert!(alone, "where they may be held for long");
    }
}

#[test]
fn a_limit_that_was_changed_or_another_redis_begin_anew() {
    let mut lease = lease();
    grant(&mut lease, 10, 0, ALONE);
    let other = Bucket { interval: 200_000, ..bucket() };
    lease.follow(other, 1);
    assert_eq!((lease.stock(1), lease.is_due()), (Stock::Unknown, false));
    grant(&mut lease, 10, 0, ALONE);
    lease.follow(other, 2);
    assert_eq!(lease.stock(1), Stock::Unknown);
}

#[test]
fn what_was_spent_without_redis_is_told_once_and_forgotten_when_the_bucket_is_full() {
    let mut lease = lease();
    for now in 0..10 {
        lease.spend_without_redis(now, ALONE, None);
    }
    let ask = lease.ask(20, 1, ALONE);
    assert_eq!(ask.spent, 10);
    lease.spend_without_redis(21, ALONE, None);
    let grant = Grant { tokens: 1, taken: 0, ..Grant::default() };
    lease.take((&ask, &grant), (1, 20, 30), ALONE);
    assert_eq!(lease.settle(30).spent, 1, "what came later is told later");
    lease.spend_without_redis(20_000 * MILLISECOND, ALONE, None);
    assert_eq!(lease.settle(20_000 * MILLISECOND).spent, 1);
}

#[test]
fn what_a_day_is_charged_with_is_not_charged_to_the_next_one() {
    let quota = Bucket {
        interval: 1,
        refill: Refill::Calendar(Calendar::Day),
        is_charged: true,
        ..bucket()
    };
    let mut lease = Lease::new(quota);
    lease.owe(700, 10, Some(90));
    assert_eq!(lease.settle(99).spent, 700);
    assert_eq!(lease.settle(100).spent, 0);
    lease.owe(5, 101, Some(90));
    assert_eq!(lease.settle(102).spent, 5);
}

#[test]
fn another_redis_is_told_once_how_much_was_taken() {
    let mut lease = lease();
    grant(&mut lease, 1000, 0, ALONE);
    lease.follow(bucket(), 2);
    let ask = lease.ask(41 * MILLISECOND, 1, ALONE);
    assert_eq!(ask.floor, 60 * MILLISECOND, "less what time has given back");
    let grant = Grant { tokens: 1, taken: ask.floor, ..Grant::default() };
    lease.take((&ask, &grant), (2, 41 * MILLISECOND, 42 * MILLISECOND), ALONE);
    assert_eq!(lease.ask(43 * MILLISECOND, 1, ALONE).floor, 0);
}

fn quota(amount: i64) -> Bucket {
    let quota = Quota::parse(amount, Calendar::Day).expect("a quota");
    Bucket::new(Tokens::Quota(quota), &Cost::ONE)
}

#[test]
fn the_last_tokens_of_a_quota_are_held_no_longer_than_those_of_a_rate() {
    for (amount, held_for) in [(4, SHORT), (1000, IDLE)] {
        let (bucket, start) = (quota(amount), MILLISECOND);
        let mut lease = Lease::new(bucket);
        lease.follow(bucket, 1);
        let ask = lease.ask(start, 1, ALONE);
        let tokens = ask.want;
        let grant = Grant { tokens, taken: tokens, ends_in: Some(1 << 50), ..Grant::default() };
        lease.take((&ask, &grant), (1, start, start), ALONE);
        assert_eq!(spendable(&mut lease, start + held_for - 1), tokens, "of {amount}");
        assert_eq!(spendable(&mut lease, start + held_for), 0, "of {amount}");
        assert_eq!((lease.back.tokens, lease.is_due()), (tokens, true), "of {amount}");
    }
}

#[test]
fn who_finds_a_quota_used_up_comes_back_when_others_have_given_back_what_they_hold() {
    const HOUR: u64 = 3_600_000 * MILLISECOND;
    // At eight in the morning others have taken all of it.
    let start = 1_800_000_000_000 * MILLISECOND;
    for (amount, held_for) in [(4, SHORT), (1000, IDLE)] {
        let (bucket, mut kept) = (quota(amount), [Kept::default()]);
        mirror::call(&mut kept, &[Ask { want: 1000, ..Ask::about(bucket) }], start);
        let mut told = |after| {
            let (mut lease, now) = (Lease::new(bucket), start + after);
            lease.follow(bucket, 1);
            let ask = lease.ask(now, 1, ALONE);
            let grant = mirror::call(&mut kept, &[ask], now).remove(0);
            lease.take((&ask, &grant), (1, now, now), ALONE);
            assert_eq!(lease.stock(now), Stock::Empty, "of {amount}");
            bucket.wait_nanos(lease.level(now))
        };
        let back = held_for + GIVING_BACK;
        assert_eq!(told(MILLISECOND), back - MILLISECOND, "of {amount}");
        assert_eq!(told(back - MILLISECOND), MILLISECOND, "of {amount}");
        assert_eq!(told(back), 16 * HOUR - back, "of {amount}");
    }
}

/// Two leases are given back after a third was taken and spent.
#[test]
fn giving_back_makes_no_room_for_what_was_spent() {
    let (bucket, second) = (bucket(), 1_000 * MILLISECOND);
    let mut kept = [Kept::default()];
    let mut call = |want, back, now| {
        let ask = Ask { want, back, ..Ask::about(bucket) };
        mirror::call(&mut kept, &[ask], now).remove(0)
    };
    let (one, two) = (call(1000, Back::default(), second), call(1000, Back::default(), second));
    let back = |grant: Grant| Back { tokens: grant.tokens, mark: grant.mark };
    assert_eq!(call(0, back(one), second).taken, 100 * MILLISECOND);
    let third = call(1000, Back::default(), second + 90 * MILLISECOND);
    assert_eq!(third.taken, 110 * MILLISECOND);
    // Only 10 of the 100 ms the second took are in it still: time has taken the others.
    let after = call(0, back(two), second + 90 * MILLISECOND);
    assert_eq!(after.taken, 100 * MILLISECOND);
}
