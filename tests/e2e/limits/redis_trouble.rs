//! Redis in trouble, under load: each node goes on with its share of the limits.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{MOST_IN_TROUBLE, counts_in_redis};
use crate::support::{Gate, Load, Redis, Upstream, is_long};

/// What Redis goes through.
struct Trouble {
    name: &'static str,
    seconds: f64,
    begin: fn(&mut Redis),
    end: fn(&mut Redis),
}

const TROUBLES: [Trouble; 6] = [
    Trouble { name: "killed", seconds: 3.0, begin: Redis::kill, end: Redis::restart },
    Trouble { name: "frozen", seconds: 3.0, begin: Redis::freeze, end: Redis::thaw },
    Trouble {
        name: "slowed by 5 ms",
        seconds: 3.0,
        begin: |redis| redis.wire.slow_by(Duration::from_millis(5)),
        end: |redis| redis.wire.slow_by(Duration::ZERO),
    },
    Trouble {
        name: "slowed by 20 ms",
        seconds: 3.0,
        begin: |redis| redis.wire.slow_by(Duration::from_millis(20)),
        end: |redis| redis.wire.slow_by(Duration::ZERO),
    },
    Trouble {
        name: "slowed by 200 ms",
        seconds: 3.0,
        begin: |redis| redis.wire.slow_by(Duration::from_millis(200)),
        end: |redis| redis.wire.slow_by(Duration::ZERO),
    },
    Trouble { name: "restarted", seconds: 0.0, begin: Redis::kill, end: Redis::restart },
];

/// Of a key that is asked for more than it may have, in requests a minute.
const LOW: u32 = 600;

/// Of a key that never gets to its limit.
const HIGH: u32 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_in_trouble_costs_no_error_no_time_and_no_limit() {
    let upstream = Upstream::terse().await;
    let mut gate = Gate::with_nodes(2).with_redis().alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let mut wrong = Vec::new();
    for trouble in TROUBLES {
        wrong.extend(trouble.play(&mut gate).await);
    }
    assert_eq!(wrong, [""; 0]);
}

impl Trouble {
    /// What is wrong with what came of it.
    async fn play(&self, gate: &mut Gate) -> Vec<String> {
        let (_, low) = gate.key(json!({"source_path": "low", "rate_limit": LOW})).await;
        let (_, high) = gate.key(json!({"source_path": "high", "rate_limit": HIGH})).await;
        gate.settle().await;
        counts_in_redis(gate).await;
        let scale = if is_long() { 4.0 } else { 1.0 };
        let low = Load::with_key(&gate.nodes, &low).per_second(300.0).start();
        let high = Load::with_key(&gate.nodes, &high).per_second(200.0).start();
        tokio::time::sleep(Duration::from_secs_f64(3.0 * scale)).await;
        let begun = Instant::now();
        (self.begin)(gate.redis());
        tokio::time::sleep(Duration::from_secs_f64(self.seconds * scale)).await;
        (self.end)(gate.redis());
        let ended = Instant::now();
        counts_in_redis(gate).await;
        let back = ended.elapsed();
        tokio::time::sleep(Duration::from_secs_f64(2.0 * scale)).await;
        let (low, high) = (low.stop().await, high.stop().await);

        let mut wrong = Vec::new();
        let mut hold = |holds: bool, what: String| {
            println!("{}: {what}", self.name);
            if !holds {
                wrong.push(format!("{}: {what}", self.name));
            }
        };
        hold(back < Duration::from_secs(2), format!("counted in Redis again after {back:?}"));
        for (key, answers) in [("low", &low), ("high", &high)] {
            let faults = answers.count(|status| status != 200 && status != 429);
            hold(faults == 0, format!("{key}: {faults} faults of {} answers", answers.asked()));
            let (before, after) = answers.split_at(begun);
            let (before, after) = (before.p99(), after.p99());
            let most = before + Duration::from_millis(if is_long() { 2 } else { 500 });
            hold(after < most, format!("{key}: p99 {before:?} before, {after:?} from then on"));
        }
        let refused = high.asked() - high.admitted();
        hold(refused == 0, format!("{refused} refused that were within the limit, and its shares"));
        let seconds = (low.ended() - low.begun()).as_secs_f64();
        let allowed = f64::from(LOW) * (1.0 + seconds / 60.0);
        let admitted = low.admitted() as f64;
        let told = format!("{admitted} of {allowed:.0} admitted: {:.3}", admitted / allowed);
        hold(admitted <= MOST_IN_TROUBLE * allowed, told);
        wrong
    }
}
