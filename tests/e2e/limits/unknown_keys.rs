//! Keys nobody was ever given.

use fastgate::secret::{Kind, Secret};
use serde_json::json;

use crate::support::{Gate, Load, Upstream, is_long};

/// What a node may have grown by, in MiB. Most of it are audit events, where they come faster than
/// they are stored: some of them wait in memory, the others are dropped.
const GROWTH: u64 = 128;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_keys_leave_nothing_in_redis_and_little_in_the_node() {
    let upstream = Upstream::terse().await;
    let mut gate = Gate::with_nodes(1).with_redis().alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (_, secret) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    let known = Load::with_key(&gate.nodes, &secret).run_times(50).await;
    assert_eq!(known.admitted(), 50);
    let held = gate.redis().keys();
    assert_eq!(held.lines().count(), 1, "{held}");
    let before = gate.nodes[0].process().peak_memory();

    let requests = if is_long() { 1_000_000 } else { 20_000 };
    let answers = Load::with_keys(&gate.nodes, strange).at_once(16).run_times(requests).await;
    assert_eq!(answers.count(|status| status == 401), requests);
    let after = gate.nodes[0].process().peak_memory();
    println!("{requests} unknown keys: {before} MiB before, {after} MiB after");
    assert!(after - before < GROWTH, "{before} MiB before, {after} MiB after");
    // The one there was may be full again by now.
    let new = gate.redis().keys();
    assert!(new.lines().all(|name| held.contains(name)), "{new}");
    assert_eq!(upstream.served(), 50);
}

/// Nine of ten could be keys, so that they are looked for; the others are junk of different kinds.
fn strange(n: u64) -> String {
    let secret = Secret::generate(Kind::ApiKey).expect("random bytes");
    match n % 40 {
        0 => format!("junk-{n}"),
        10 => format!("fg_{n}"),
        20 => secret.expose().replacen("fg_", "fg_x", 1),
        30 => "x".repeat(n as usize % 1000 + 1),
        _ => secret.expose().to_owned(),
    }
}
