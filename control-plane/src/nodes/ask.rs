//! Questions to nodes: each goes out on the stream of its node, and the answer comes back on it.

use std::{collections::HashMap, time::Duration};

use fastgate::{
    admin::v1::LimitStanding,
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

/// What one node, of this id, answered, or why it did not.
pub(crate) type Answered = (String, Result<Vec<LimitStanding>, String>);

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
    /// Asks all nodes of an environment that are connected here where the limits of a key stand,
    /// after its own were made full again, if that is asked.
    pub(crate) async fn ask(&self, environment: &Id, key_id: &Id, reset: bool) -> Vec<Answered> {
        let query = LimitQuery { query_id: 0, key_id: key_id.to_string(), reset };
        let answers = self.mailboxes(environment).into_iter().map(|(node_id, mailbox)| {
            let query = query.clone();
            async { (node_id, ask(mailbox, query).await) }
        });
        futures_util::future::join_all(answers).await
    }
}

async fn ask(mailbox: Mailbox, query: LimitQuery) -> Result<Vec<LimitStanding>, String> {
    let (answer, answered) = oneshot::channel();
    mailbox.try_send(Question { query, answer }).map_err(|_| "is asked too much")?;
    let report = timeout(PATIENCE, answered).await.map_err(|_| "does not answer")?;
    match report.map_err(|_| "went")? {
        LimitReport { fault, limits, .. } if fault.is_empty() => Ok(limits),
        LimitReport { fault, .. } => Err(fault),
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
