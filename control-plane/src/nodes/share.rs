//! Tells the other replicas of the nodes here, and hears of theirs.

use std::{
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{admin::v1, model::Id};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Nodes, REMEMBERED,
    elsewhere::{Elsewhere, STALE},
    with_lag,
};
use crate::{
    domain::Namespace,
    store::{News, SaidNode, Store, StoreError, within},
};

/// How often, while no node comes or goes.
const EVERY: Duration = Duration::from_secs(2);

/// How long the store may take to do its part.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for more when one does: a hundred at once are told of together.
const TOGETHER: Duration = Duration::from_millis(100);

/// How long it is said of a node that it went. Whoever did not hear of it sees that nothing more comes.
const FAREWELL: Duration = Duration::from_secs(30);

impl Nodes {
    /// Shares the nodes with the other replicas on the same store, for ever. While the store is away
    /// everything stays as it was last heard.
    pub(crate) async fn share(&self, store: Arc<dyn Store>, head: impl Fn(&Id, Namespace) -> u64) {
        let replica = Uuid::now_v7().simple().to_string();
        let mut heard: Option<Instant> = None;
        let mut lenient_until = Instant::now();
        let (mut is_news, mut is_away) = (false, false);
        loop {
            let told = self.to_tell(&head);
            match within(PATIENCE, exchange(&*store, &replica, &told, is_news)).await {
                Ok(said) => {
                    is_away = false;
                    // The others could not say anything either, and get the time to do so.
                    if heard.is_some_and(|heard| heard.elapsed() > EVERY * 2) {
                        lenient_until = Instant::now() + STALE;
                    }
                    heard = Some(Instant::now());
                    self.hear(said, Instant::now() < lenient_until);
                }
                Err(fault) if !mem::replace(&mut is_away, true) => {
                    tracing::warn!(error = %fault, "can't hear of the nodes of other control planes");
                }
                Err(_) => {}
            }
            is_news = tokio::select! {
                () = self.0.came_or_went.notified() => {
                    sleep(TOGETHER).await;
                    true
                }
                () = store.changed(News::Nodes) => {
                    sleep(TOGETHER).await;
                    false
                }
                () = sleep(EVERY) => false,
            };
        }
    }

    /// What the others are to know: who is here, and who went lately. How far each was behind when that
    /// was told only this replica can say.
    pub(super) fn to_tell(&self, head: impl Fn(&Id, Namespace) -> u64) -> Vec<v1::Node> {
        let now = SystemTime::now();
        let went_long_ago = |at| now.duration_since(at).is_ok_and(|since| since > FAREWELL);
        let state = self.state();
        let lately = state
            .here
            .values()
            .filter(|node| node.is_connected() || !went_long_ago(node.last_seen_at));
        lately.map(|node| with_lag(node.to_wire(), &node.greeting.environment, &head)).collect()
    }

    pub(super) fn hear(&self, said: Vec<SaidNode>, leniently: bool) {
        let mut state = self.state();
        let elsewhere = Elsewhere::of(said, &state.elsewhere, leniently);
        let is_news = state.hear(elsewhere);
        drop(state);
        if is_news {
            self.0.count_changed.send_replace(());
        }
    }
}

async fn exchange(
    store: &dyn Store,
    replica: &str,
    nodes: &[v1::Node],
    is_news: bool,
) -> Result<Vec<SaidNode>, StoreError> {
    if !nodes.is_empty() {
        store.put_nodes(replica, nodes, REMEMBERED, is_news).await?;
    }
    store.nodes_of_others(replica).await
}
