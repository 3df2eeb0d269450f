//! The control plane and Postgres die again and again while requests are served.

use std::time::Duration;

use super::{Clients, ids_in_log, open_route, shipped};
use crate::support::{Gate, Upstream, is_long};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_stored_once_however_often_the_store_is_killed() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_own_postgres().alone().start().await;
    open_route(&gate, &upstream).await;
    let clients = Clients::start(&gate.nodes[0], 0);
    let (of_control_plane, of_postgres) = if is_long() { (50, 20) } else { (5, 2) };
    for kill in 1..=of_control_plane {
        // At no moment of a batch in particular.
        tokio::time::sleep(Duration::from_millis(400 + 173 * kill % 307)).await;
        gate.kill_control_plane();
        // At some of them both are away.
        let is_both =
            kill * of_postgres / of_control_plane > (kill - 1) * of_postgres / of_control_plane;
        if is_both && kill % 2 == 0 {
            gate.postgres().kill();
            gate.postgres().restart();
        }
        gate.start_control_plane().await;
        if is_both && kill % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(300 + 131 * kill % 211)).await;
            gate.postgres().kill();
            gate.postgres().restart();
        }
    }
    let (sent, answered) = clients.end().await;
    assert_eq!(sent, answered.len() as u64, "every request was answered");
    shipped(&gate.nodes[0]).await;
    let ids = ids_in_log(&gate).await;
    println!(
        "{of_control_plane} kills of the control plane, {of_postgres} of Postgres: {sent} sent, \
         {} stored",
        ids.len()
    );
    assert_eq!(ids, answered.into_iter().map(|(id, _)| id).collect());
}
