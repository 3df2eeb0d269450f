//! Nodes that are asked for ten times what a limit admits.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::json;

use super::MOST_IN_TROUBLE;
use crate::support::{Answers, Gate, Load, Upstream, is_long};

/// One limit, in requests a minute.
struct Row {
    per_minute: u32,
    /// Whether it begins with an empty bucket: a full one is more than can be asked for in time.
    begins_empty: bool,
}

/// Two cores answer some tens of thousands of requests a second, built optimised: the highest limit
/// is asked for as much as there is. Otherwise it is not even overloaded, and all is admitted.
const ROWS: [Row; 3] = [
    Row { per_minute: 60, begins_empty: false },
    Row { per_minute: 6_000, begins_empty: true },
    Row { per_minute: 600_000, begins_empty: true },
];

/// A low limit is used up soon, and a bucket that is empty stays so when its limit is raised.
const EMPTIED_AT: u32 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_admit_what_the_limit_allows_at_ten_times_the_load() {
    let upstream = Upstream::terse().await;
    let gate = Gate::with_nodes(4).with_redis().alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    for row in ROWS {
        let served = upstream.served();
        let admitted = row.holds(&gate).await;
        assert_eq!(upstream.served() - served, admitted, "what was refused never reached it");
    }
}

impl Row {
    /// How many requests it admitted in all.
    async fn holds(&self, gate: &Gate) -> u64 {
        let first = if self.begins_empty { EMPTIED_AT } else { self.per_minute };
        let (key_id, secret) = gate.key(json!({"source_path": "app", "rate_limit": first})).await;
        gate.settle().await;
        let load = Load::with_key(&gate.nodes, &secret).at_once(8);
        let (mut before, mut burst, mut emptied) = (0, f64::from(self.per_minute), None);
        if self.begins_empty {
            let answers = load.run_times(u64::from(EMPTIED_AT) * 3 / 2).await;
            let last = answers.all().iter().rfind(|asked| asked.status == 200);
            let last = last.expect("some are admitted").at;
            (before, burst, emptied) = (answers.admitted(), 0.0, Some(last));
            let path = format!("/admin/keys/{key_id}");
            gate.admin.json(Method::PUT, &path, json!({"rate_limit": self.per_minute})).await;
            gate.settle().await;
        }

        let time = Duration::from_secs(if is_long() { 30 } else { 6 });
        let per_second = f64::from(self.per_minute) / 60.0;
        let pace = 10.0 * (burst / time.as_secs_f64() + per_second);
        let outages = gate.redis_outages();
        let answers = load.per_second(pace).run_for(time).await;
        let outages = gate.redis_outages() - outages;
        let possible = self.possible(&answers, burst, emptied);
        let (asked, admitted) = (answers.asked(), answers.admitted());
        let (over, share) = (asked as f64 / possible, admitted as f64 / possible);
        println!(
            "{}/min: {asked} asked, {over:.1} times the {possible} possible; {admitted} admitted: \
             {share:.4}; {outages} outages",
            self.per_minute
        );
        assert_eq!(answers.count(|status| status != 200 && status != 429), 0);
        // A token more or less is one that came at the edge of the time.
        assert!(admitted as f64 >= possible * 0.98 - 1.0, "{share:.4}");
        let most = if outages == 0 { 1.01 } else { MOST_IN_TROUBLE };
        assert!(admitted as f64 <= possible * most + 1.0, "{share:.4}");
        assert!(over > 2.0 || self.per_minute > 100_000, "this is no overload");
        before + answers.admitted()
    }

    /// What one bucket would have admitted of the same requests.
    fn possible(&self, answers: &Answers, mut tokens: f64, emptied: Option<Instant>) -> f64 {
        let mut times: Vec<_> = answers.all().iter().map(|asked| asked.at + asked.took).collect();
        times.sort();
        let (mut at, mut admitted) = (emptied.unwrap_or(times[0]), 0.0);
        for time in times {
            let refill = f64::from(self.per_minute) / 60.0 * (time - at).as_secs_f64();
            tokens = (tokens + refill).min(f64::from(self.per_minute));
            at = time;
            if tokens >= 1.0 {
                tokens -= 1.0;
                admitted += 1.0;
            }
        }
        admitted
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_when_the_refill_says_however_many_were_refused() {
    let upstream = Upstream::terse().await;
    let gate = Gate::with_nodes(4).with_redis().alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (_, secret) = gate.key(json!({"source_path": "app", "rate_limit": 60})).await;
    gate.settle().await;
    let answers = Load::with_key(&gate.nodes, &secret).run_for(Duration::from_millis(2500)).await;
    let first = answers.all().iter().find(|asked| asked.status == 200).expect("one is admitted");
    println!("{} refused", answers.count(|status| status == 429));

    let clients: Vec<_> = gate.nodes.iter().map(|node| node.with_key(&secret)).collect();
    for (second, client) in (3..7).zip(clients.iter().cycle()) {
        // Some time in which nobody asks, then again and again.
        let due = first.at + Duration::from_secs(second);
        let begun = due - Duration::from_millis(500);
        tokio::time::sleep_until(begun.into()).await;
        while client.get("/").await.status == StatusCode::TOO_MANY_REQUESTS {}
        let came = Instant::now();
        println!("token {second}: {:?} after it was due", came.saturating_duration_since(due));
        assert!(came >= due, "{:?} too soon", due - came);
        let late = came - due - first.took.min(came - due);
        assert!(late < Duration::from_millis(if is_long() { 20 } else { 400 }), "{late:?} late");
    }
}
