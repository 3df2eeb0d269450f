//! Questions to nodes: each goes out on the stream of its node, and the answer comes back on it.

use std::{collections::HashMap, time::Duration};

use fastgate::{
    admin::v1::{ExplainRequest, Explanation, LimitStanding, NodeConfig},
    model::Id,
    node::v1::{Answer, HoldingQuery, LimitQuery, Question as Asked, answer::Told, question::Ask},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Name, Nodes};

/// Questions that wait for one node.
const WAITING: usize = 16;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a node may take to have a change that it is asked about.
const TAKING: Duration = Duration::from_secs(1);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Unanswered {
    /// Nobody could be asked, or was heard in time.
    #[error("{0}")]
    Unheard(String),
    /// This node says why it can't tell.
    #[error("node '{node_id}' {why}")]
    Declined { node_id: String, why: String },
}

/// A question on its way to a node.
pub(crate) struct Question {
    ask: Ask,
    answer: oneshot::Sender<Answer>,
}

/// Where questions for one node are put.
pub(super) type Mailbox = mpsc::Sender<Question>;

/// The questions of one node's stream.
pub(crate) struct Questions {
    incoming: mpsc::Receiver<Question>,
    next_id: u64,
    asked: HashMap<u64, oneshot::Sender<Answer>>,
}

/// A mailbox and what comes of it.
pub(super) fn mailbox() -> (Mailbox, Questions) {
    let (sender, incoming) = mpsc::channel(WAITING);
    (sender, Questions { incoming, next_id: 0, asked: HashMap::new() })
}

impl Nodes {
    /// Where all nodes of an environment that are connected here say that the limits of a key stand,
    /// once they have this revision of keys; or why one does not say.
    pub(crate) async fn limits(
        &self,
        environment: &Id,
        key_id: &Id,
        revision: u64,
    ) -> Vec<Result<Vec<LimitStanding>, Unanswered>> {
        let ask = Ask::Limits(LimitQuery { key_id: key_id.to_string(), reset: false });
        let answers = self.connected(environment).into_iter().map(|(node_id, mailbox)| {
            let ask = ask.clone();
            async move {
                let mailbox = mailbox.ok_or_else(|| Unanswered::Unheard(too_old(&node_id)))?;
                let name = (environment.clone(), node_id);
                let has_it = timeout(TAKING, self.takes_keys(&name, revision)).await;
                let (_, node_id) = name;
                has_it.map_err(|_| Unanswered::Unheard(lagging(&node_id)))?;
                match put(&node_id, mailbox, ask).await? {
                    Told::Limits(report) => Ok(report.limits),
                    _ => Err(another(&node_id)),
                }
            }
        });
        futures_util::future::join_all(answers).await
    }

    /// What a node would do with a request.
    pub(crate) async fn explain(
        &self,
        environment: &Id,
        request: ExplainRequest,
    ) -> Result<Explanation, Unanswered> {
        let (node_id, mailbox) = self.find(environment, &request.node_id)?;
        match put(&node_id, mailbox, Ask::Explain(request)).await? {
            Told::Explanation(explanation) => Ok(explanation),
            _ => Err(another(&node_id)),
        }
    }

    /// What a node serves from.
    pub(crate) async fn holding(
        &self,
        environment: &Id,
        node_id: &str,
        with_config: bool,
    ) -> Result<NodeConfig, Unanswered> {
        let (node_id, mailbox) = self.find(environment, node_id)?;
        match put(&node_id, mailbox, Ask::Holding(HoldingQuery { with_config })).await? {
            Told::Holding(held) => Ok(held),
            _ => Err(another(&node_id)),
        }
    }

    /// Returns when a node has a revision of keys.
    async fn takes_keys(&self, name: &Name, revision: u64) {
        let has_it = || {
            let state = self.state();
            state.here.get(name).is_some_and(|node| node.greeting.keys.revision >= revision)
        };
        while !has_it() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// The mailbox of a node that is connected here, by its id or, where that is empty, of any.
    fn find(&self, environment: &Id, node_id: &str) -> Result<(String, Mailbox), Unanswered> {
        let mut asked = self.connected(environment).into_iter();
        let found = asked.find_map(|(id, mailbox)| {
            if node_id.is_empty() || id == node_id { Some((id, mailbox?)) } else { None }
        });
        found.ok_or_else(|| Unanswered::Unheard(self.why_not(environment, node_id)))
    }

    /// Why no node of an environment can be asked here.
    pub(crate) fn why_none(&self, environment: &Id) -> &'static str {
        let state = self.state();
        if state.elsewhere.connected().any(|(of, _)| of == environment) {
            "all are connected to other control planes: ask one of those"
        } else {
            "none is connected to this control plane, or it is too old"
        }
    }

    fn why_not(&self, environment: &Id, node_id: &str) -> String {
        if node_id.is_empty() {
            return self.why_none(environment).to_owned();
        }
        let name = (environment.clone(), node_id.to_owned());
        let state = self.state();
        let is_here = state.here.get(&name).is_some_and(super::Node::is_connected);
        if is_here {
            too_old(node_id)
        } else if state.elsewhere.is_connected(&name) {
            format!("node '{node_id}' is connected to another control plane: ask that one")
        } else {
            format!("node '{node_id}' is not connected")
        }
    }
}

fn too_old(node_id: &str) -> String {
    format!("node '{node_id}' is too old to be asked: bring it up to date")
}

fn lagging(node_id: &str) -> String {
    format!("node '{node_id}' does not have this change yet, and counts as before until it does")
}

/// Puts a question to a node and waits for the answer.
async fn put(node_id: &str, mailbox: Mailbox, ask: Ask) -> Result<Told, Unanswered> {
    let unheard = |what: &str| Unanswered::Unheard(format!("node '{node_id}' {what}"));
    let (answer, answered) = oneshot::channel();
    mailbox.try_send(Question { ask, answer }).map_err(|_| unheard("is asked too much"))?;
    let answer = timeout(PATIENCE, answered).await.map_err(|_| unheard("does not answer"))?;
    let Answer { fault, told, .. } = answer.map_err(|_| unheard("went"))?;
    match told {
        Some(told) if fault.is_empty() => Ok(told),
        _ => Err(Unanswered::Declined { node_id: node_id.to_owned(), why: fault }),
    }
}

fn another(node_id: &str) -> Unanswered {
    Unanswered::Declined { node_id: node_id.to_owned(), why: "answers another question".into() }
}

impl Questions {
    /// The next one, as it goes out. Nothing comes any more when the node is known no longer.
    pub(crate) async fn next(&mut self) -> Asked {
        let Some(Question { ask, answer }) = self.incoming.recv().await else {
            return std::future::pending().await;
        };
        // Those whose asker went are never answered to anyone.
        self.asked.retain(|_, answer| !answer.is_closed());
        self.next_id += 1;
        self.asked.insert(self.next_id, answer);
        Asked { question_id: self.next_id, ask: Some(ask) }
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, answer: Answer) {
        if let Some(asker) = self.asked.remove(&answer.question_id) {
            // Whoever asked may have gone.
            drop(asker.send(answer));
        }
    }
}
