//! Questions to nodes: each goes out on the stream of its node, and the answer comes back on it.

use std::{collections::HashMap, time::Duration};

use fastgate::{
    model::Id,
    node::v1::{LimitQuery, LimitReport},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::Nodes;

/// Questions that wait for one node.
const WAITING: usize = 16;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one node answered; `None`: nothing.
pub(crate) type Answered = (String, Option<LimitReport>);

/// A question on its way to a node.
pub(crate) struct Question {
    query: LimitQuery,
    answer: oneshot::Sender<LimitReport>,
}

/// Where questions for one node are put.
pub(super) type Mailbox = mpsc::Sender<Question>;

/// The questions of one node's stream.
pub(crate) struct Questions {
    incoming: mpsc::Receiver<Question>,
    next_id: u64,
    asked: HashMap<u64, oneshot::Sender<LimitReport>>,
}

/// A mailbox and what comes of it.
pub(super) fn mailbox() -> (Mailbox, Questions) {
    let (sender, incoming) = mpsc::channel(WAITING);
    (sender, Questions { incoming, next_id: 0, asked: HashMap::new() })
}

impl Nodes {
    /// Asks the nodes of an environment that are connected here: all, or one that is.
    pub(crate) async fn ask(
        &self,
        environment: &Id,
        query: &LimitQuery,
        all: bool,
    ) -> Vec<Answered> {
        let mailboxes = self.mailboxes(environment);
        let asked = mailboxes.into_iter().take(if all { usize::MAX } else { 1 });
        let answers = asked.map(|(node_id, mailbox)| async move {
            let (answer, answered) = oneshot::channel();
            let question = Question { query: query.clone(), answer };
            let is_sent = mailbox.try_send(question).is_ok();
            let report = if is_sent { timeout(PATIENCE, answered).await.ok() } else { None };
            (node_id, report.and_then(Result::ok))
        });
        futures_util::future::join_all(answers).await
    }
}

impl Questions {
    /// The next one, as it goes out. Nothing comes any more when the node is known no longer.
    pub(crate) async fn next(&mut self) -> LimitQuery {
        let Some(Question { query, answer }) = self.incoming.recv().await else {
            return std::future::pending().await;
        };
        // Those whose asker went are never answered to anyone.
        self.asked.retain(|_, answer| !answer.is_closed());
        self.next_id += 1;
        self.asked.insert(self.next_id, answer);
        LimitQuery { query_id: self.next_id, ..query }
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, report: LimitReport) {
        if let Some(answer) = self.asked.remove(&report.query_id) {
            // Whoever asked may have gone.
            drop(answer.send(report));
        }
    }
}
