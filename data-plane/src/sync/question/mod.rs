//! Answers what people ask a node, through the control plane.
//!
//! ```text
//! Question -> begin (looks at what is held) -> Begun -> answer (may have to ask Redis) -> Answer
//! ```

mod holding;
mod limits;

use fastgate::{
    admin::v1::ExplainRequest,
    model::Key,
    node::v1::{
        Answer, EntityKind, HoldingQuery, KeyRecord, LimitQuery, Question, answer::Told,
        question::Ask,
    },
};
use prost::Message as _;

use super::{Namespace, replica::Replica};
use crate::{
    explain::{self, Explainer, Standings},
    limits::Limiter,
    settings::Settings,
    snapshot::SnapshotCell,
};

/// What questions are about.
pub(super) struct Grounds<'a> {
    pub(super) node_id: &'a str,
    pub(super) environment: &'a str,
    pub(super) settings: &'a Settings,
    pub(super) replica: &'a Replica,
    pub(super) snapshots: &'a SnapshotCell,
    pub(super) limiter: &'a Limiter,
    /// Whether requests are taken as far as their audit events are concerned.
    pub(super) has_room: bool,
}

/// A question that was understood; what it takes to answer it.
pub(super) struct Begun {
    question_id: u64,
    what: What,
}

enum What {
    Limits(Standings),
    Explanation(Box<explain::Pending>),
    Told(Box<Told>),
    Fault(String),
}

/// Looks at what a question is about.
pub(super) fn begin(question: Question, on: &Grounds<'_>) -> Begun {
    let what = match question.ask {
        Some(Ask::Limits(query)) => limits_of(&query, on),
        Some(Ask::Explain(request)) => explain(&request, on),
        Some(Ask::Holding(HoldingQuery { with_config })) => {
            holding::tell(with_config, on).map(|held| What::Told(Box::new(Told::Holding(held))))
        }
        None => Err("does not know this question: bring it up to date".to_owned()),
    };
    Begun { question_id: question.question_id, what: what.unwrap_or_else(What::Fault) }
}

impl Begun {
    /// Refuses to answer it.
    pub(super) fn decline(self, why: &str) -> Answer {
        Answer { question_id: self.question_id, fault: why.to_owned(), told: None }
    }

    /// Answers it.
    pub(super) async fn answer(self) -> Answer {
        let question_id = self.question_id;
        let told = match self.what {
            What::Limits(standings) => limits::look(standings).await.map(Told::Limits),
            What::Explanation(pending) => Ok(Told::Explanation(pending.finish().await)),
            What::Told(told) => Ok(*told),
            What::Fault(fault) => Err(fault),
        };
        match told {
            Ok(told) => Answer { question_id, fault: String::new(), told: Some(told) },
            Err(fault) => Answer { question_id, fault, told: None },
        }
    }
}

fn limits_of(query: &LimitQuery, on: &Grounds<'_>) -> Result<What, String> {
    if query.reset {
        return Err(
            "is newer than this control plane, whose resets do not last: bring it up to date"
                .into(),
        );
    }
    let key = key(&query.key_id, on.replica)?;
    let standings = limits::of_key(&key, on).ok_or("can't tell the limits of this key")?;
    Ok(What::Limits(standings))
}

fn explain(request: &ExplainRequest, on: &Grounds<'_>) -> Result<What, String> {
    let secret = match request.key_id.as_str() {
        "" => None,
        id => Some(key(id, on.replica)?.secrets.last().ok_or("knows no secret of this key")?.hash),
    };
    let Grounds { node_id, settings, snapshots, limiter, has_room, .. } = *on;
    let explainer = Explainer { node_id, settings, snapshots, limiter, has_room };
    Ok(What::Explanation(Box::new(explainer.begin(request, secret)?)))
}

/// A key as it is held.
fn key(key_id: &str, replica: &Replica) -> Result<Key, String> {
    let unknown = || "does not know the key".to_owned();
    let keys = replica.held(Namespace::Keys).ok_or_else(unknown)?;
    let record = keys.get(EntityKind::Key.into(), key_id).ok_or_else(unknown)?;
    let wire = KeyRecord::decode(record.value()).ok();
    let key = wire.and_then(|wire| Key::parse(&wire).ok());
    key.ok_or_else(|| "denies this key: its record is bad".to_owned())
}
