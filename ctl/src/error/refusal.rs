//! What a control plane answers in place of what was asked for.

use std::fmt;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::shown;

const NOT_IT: &str =
    "is --addr the admin port of a control plane? if that speaks TLS, begin it with https://";

/// What the control plane answered in place of what was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: Code,
    message: String,
    /// The machine's name of the reason, such as `ETAG_MISMATCH`; empty when none came.
    reason: String,
    details: Vec<Detail>,
}

impl Refusal {
    /// A refusal that came as part of an answer.
    pub(crate) fn of_violations(
        message: &str,
        violations: impl Iterator<Item = (String, String)>,
    ) -> Self {
        Self {
            code: Code::InvalidArgument,
            message: message.into(),
            reason: String::new(),
            details: violations.map(|(field, description)| Detail { field, description }).collect(),
        }
    }

    /// The same refusal with its fields said in another way: where they stand in a file.
    pub(crate) fn relocate(mut self, place: impl Fn(&str) -> String) -> Self {
        for detail in &mut self.details {
            detail.field = place(&detail.field);
        }
        self
    }

    /// The fields it is about.
    pub(super) fn details(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.details.iter()
    }

    /// What to do about it, where its text does not say.
    pub(super) fn mend(&self) -> Option<&'static str> {
        match self.code {
            Code::Unauthenticated => Some(
                "give an admin token: --token-file FILE, the variable FGCTL_TOKEN, or a context \
                 (fgctl context set)",
            ),
            Code::PermissionDenied => Some("take a token with a role that may do this"),
            Code::Aborted => Some("get shows it as it is now, with its etag"),
            Code::DeadlineExceeded | Code::Cancelled => {
                Some("no answer in time: look at the control plane, or raise --request-timeout")
            }
            // These say what to do.
            Code::Unavailable if self.reason.starts_with("TOO_MANY_") => None,
            Code::Unavailable if self.reason == "NO_NODE" => None,
            Code::Unavailable => Some("try again; is the control plane well?"),
            Code::Unimplemented => Some("is the control plane of the same version as fgctl?"),
            // A control plane never answers so: it is something else that was reached, or speaks TLS.
            Code::Unknown => Some(NOT_IT),
            Code::Internal if self.reason.is_empty() => Some(NOT_IT),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Internal
            | Code::DataLoss => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}", self.code.description())?;
        } else {
            f.write_str(&self.message)?;
        }
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let bad_request = status.get_details_bad_request();
        let precondition = status.get_details_precondition_failure();
        let violations = bad_request.into_iter().flat_map(|bad| bad.field_violations);
        let preconditions = precondition.into_iter().flat_map(|failure| failure.violations);
        let details: Vec<_> = violations
            .map(|one| Detail { field: one.field, description: one.description })
            .chain(
                preconditions
                    .map(|one| Detail { field: one.subject, description: one.description }),
            )
            .collect();
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let message = without_details(status.message(), &details);
        Self { code: status.code(), message: shown(message), reason, details }
    }
}

/// A message for a log line repeats its details at the end; here each has a line of its own.
fn without_details<'a>(message: &'a str, details: &[Detail]) -> &'a str {
    let one = |detail: &Detail| format!("{}: {}", detail.field, detail.description);
    let repeated = details.iter().map(one).collect::<Vec<_>>().join("; ");
    let short = message.strip_suffix(&repeated).unwrap_or(message).trim_end_matches([':', ' ']);
    if short.is_empty() { message } else { short }
}

/// One field the control plane did not like.
#[derive(PartialEq, Eq, Debug)]
struct Detail {
    field: String,
    description: String,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", shown(&self.field), shown(&self.description))
    }
}
