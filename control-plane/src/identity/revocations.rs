//! Which certificates are refused before their end: all replicas know within a second.

use std::{collections::HashSet, mem, sync::Arc, time::Duration};

use fastgate::identity::Serial;
use tokio::{sync::watch, time::sleep};

use crate::store::{News, Store, StoreError, within};

/// How often the store is looked at when nothing is announced.
const EVERY: Duration = Duration::from_secs(1);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The revoked certificates that have not ended.
#[derive(Clone)]
pub(super) struct Revocations(Arc<watch::Sender<HashSet<Serial>>>);

impl Revocations {
    /// As the store has them now.
    pub(super) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let revoked = store.revoked_certificates().await?.into_iter().collect();
        Ok(Self(Arc::new(watch::Sender::new(revoked))))
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(HashSet::new())))
    }

    /// Keeps up with the store, for ever. While it is away everything stays as it was.
    pub(super) async fn follow(self, store: Arc<dyn Store>) {
        let mut is_away = false;
        loop {
            match within(PATIENCE, store.revoked_certificates()).await {
                Ok(revoked) => {
                    is_away = false;
                    self.set(revoked.into_iter().collect());
                }
                Err(fault) if !mem::replace(&mut is_away, true) => {
                    tracing::warn!(error = %fault, "can't hear which nodes are revoked");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = store.changed(News::Revocations) => {}
                () = sleep(EVERY) => {}
            }
        }
    }

    pub(super) fn set(&self, revoked: HashSet<Serial>) {
        self.0.send_if_modified(|held| {
            let is_news = *held != revoked;
            *held = revoked;
            is_news
        });
    }

    pub(super) fn contains(&self, serial: &Serial) -> bool {
        self.0.borrow().contains(serial)
    }

    /// Returns when this one is revoked.
    pub(super) async fn revoked(&self, serial: &Serial) {
        let mut changes = self.0.subscribe();
        // It fails when the sender is gone, which is held here.
        drop(changes.wait_for(|revoked| revoked.contains(serial)).await);
    }
}
