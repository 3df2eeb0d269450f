//! What a store wakes those for who wait.

use tokio::sync::Notify;

/// What may have changed, here or on another replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// Another revision was committed.
    Config,
    /// A node came or went.
    Nodes,
    /// Certificates of a node were revoked.
    Revocations,
}

impl News {
    pub(super) const ALL: [Self; 3] = [Self::Config, Self::Nodes, Self::Revocations];
}

/// News that nobody has looked at yet. One waits for each kind.
#[derive(Default)]
pub(super) struct Unread {
    config: Notify,
    nodes: Notify,
    revocations: Notify,
}

impl Unread {
    pub(super) fn add(&self, news: News) {
        self.of(news).notify_one();
    }

    pub(super) async fn wait(&self, news: News) {
        self.of(news).notified().await;
    }

    fn of(&self, news: News) -> &Notify {
        match news {
            News::Config => &self.config,
            News::Nodes => &self.nodes,
            News::Revocations => &self.revocations,
        }
    }
}
