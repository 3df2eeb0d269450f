//! Calls that may come again: with the same request id they get the first answer.

use prost::Message;
use sha2::{Digest as _, Sha256};

use super::{Admin, change::Draft, check_text};
use crate::{
    domain::{CallId, Committed, Op, Outcome, Repeatable, Replay},
    error::Error,
};

/// The answer to a call that changes something.
pub(super) trait Answer: Message + Default {
    /// Puts in what only the commit makes known.
    fn complete(&mut self, committed: &Committed);
}

/// An answer, and whether it is to this very call: not, where it is that to an earlier one.
pub(super) struct Answered<A> {
    pub(super) answer: A,
    pub(super) is_first: bool,
}

impl Admin {
    /// What a call is known by when it comes again; `None` when its user gave it no id, and for
    /// dry runs, which may come as often as they like.
    pub(super) fn call_id(
        action: &'static str,
        request: &impl Message,
        request_id: &str,
        validate_only: bool,
    ) -> Result<Option<CallId>, Error> {
        check_text("request_id", request_id)?;
        if request_id.is_empty() || validate_only {
            return Ok(None);
        }
        // A message without maps has one encoding in this program. One of another version, which may
        // have another, would refuse a repeated call, not answer another one.
        let fingerprint = Sha256::digest(request.encode_to_vec()).into();
        Ok(Some(CallId { action, request_id: request_id.to_owned(), fingerprint }))
    }

    /// The answer to the same call before. Asked first of all: what the call wants may since be
    /// against what is stored, by its own doing.
    pub(super) async fn first_answer<A: Answer>(
        &self,
        call: Option<&CallId>,
    ) -> Result<Option<A>, Error> {
        let Some(call) = call else { return Ok(None) };
        self.store.replay(call).await?.map(replayed).transpose()
    }

    /// Makes a change and answers it. A dry run changes nothing, so nothing completes its answer.
    pub(super) async fn answer<A: Answer>(
        &self,
        draft: &Draft,
        ops: Vec<Op>,
        call: Option<CallId>,
        mut answer: A,
    ) -> Result<Answered<A>, Error> {
        let repeatable = call.map(|call| Repeatable { call, answer: answer.encode_to_vec() });
        let is_first = match self.store.commit(&draft.change(ops, repeatable)).await? {
            Outcome::Committed(_) if draft.validate_only => true,
            Outcome::Committed(committed) => {
                answer.complete(&committed);
                true
            }
            Outcome::Replayed(replay) => {
                answer = replayed(replay)?;
                false
            }
        };
        Ok(Answered { answer, is_first })
    }
}

fn replayed<A: Answer>(Replay { committed, answer }: Replay) -> Result<A, Error> {
    let answer = A::decode(&answer[..]);
    let mut answer = answer.map_err(|_| Error::Bug("a kept answer can't be read"))?;
    answer.complete(&committed);
    Ok(answer)
}
