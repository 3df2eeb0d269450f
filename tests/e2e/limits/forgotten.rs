//! A Redis that lost everything, and nodes that know nothing any more: what was used of a quota is told
//! by the audit log.

use serde_json::{Value, json};

use super::{counts_in_redis, key_with_a_quota};
use crate::support::{Client, Gate, Upstream, eventually};

#[tokio::test]
async fn what_was_used_of_a_quota_outlives_redis_and_the_nodes() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_redis().start().await;
    gate.route(json!({
        "route_id": "orders", "path_prefix": "/", "targets": [{"url": upstream.url}],
        "limits": [{"name": "total", "amount": 2000, "period": "month", "counts": "all"}],
    }))
    .await;
    let (key_id, secret) = key_with_a_quota(&gate, "monthly=300/month").await;
    counts_in_redis(&gate).await;
    let client = gate.nodes[0].with_key(&secret);
    for _ in 0..200 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // These use nothing.
    assert_eq!(gate.nodes[0].proxy.get("/").await.status, 401);
    gate.logs(201).await;

    gate.nodes[0].kill();
    gate.redis().kill();
    gate.redis().restart();
    let dir = gate.dir().to_owned();
    gate.nodes[0].start(&dir);
    gate.nodes[0].ready().await;
    counts_in_redis(&gate).await;
    let client = gate.nodes[0].with_key(&secret);
    let mut admitted = 200 + until_known(&gate, &key_id, &client, 200).await;
    gate.logs(admitted + 1).await;
    gate.redis().empty();
    admitted += until_known(&gate, &key_id, &client, admitted).await;
    while client.get("/").await.status == 200 {
        admitted += 1;
        assert!(admitted <= 1000, "nothing is left of the limit");
    }
    // What was granted before Redis was told comes on top: an eighth of the quota at most each time.
    assert!((300..=375).contains(&admitted), "{admitted}");
}

/// Calls, and lets time pass, until Redis knows that so many were used before. Gives the calls that
/// were admitted.
async fn until_known(gate: &Gate, key_id: &str, client: &Client, before: usize) -> usize {
    let used = |shown: &Value, name: &str| {
        let row = shown["limits"].as_array()?.iter().find(|row| row["name"] == name)?;
        Some(row["limit"]["amount"].as_i64()? - row["remaining"].as_i64()?)
    };
    let mut admitted = 0;
    eventually("redis knows again what was used", async || {
        // One may be too few: tokens are at hand still, or Redis takes too long on a slow machine.
        admitted += usize::from(client.get("/").await.status == 200);
        let shown = gate.fgctl_json(&["limits", "show", key_id]);
        let used = used(&shown, "monthly")?.min(used(&shown, "route:total")?);
        (used >= before as i64).then_some(())
    })
    .await;
    admitted
}
