//! Every way a call can fail, and what the caller is told: the only place where it is decided.

use std::collections::HashMap;

use fastgate::model::Violations;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::store::StoreError;

/// Names this API in the `ErrorInfo` of every refusal.
pub(crate) const DOMAIN: &str = "fastgate";

/// Why a call was not answered as asked.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the request is not valid: {0}")]
    Invalid(#[from] Violations),
    /// The bytes sent are no message of this method.
    #[error("the message can't be read: {0}")]
    Malformed(String),
    #[error("the message is too large: {0}")]
    TooLarge(String),
    #[error("an admin token is needed: send 'Authorization: Bearer fga_...'")]
    NoToken,
    /// Unknown, revoked and expired look the same.
    #[error("the admin token is not valid: it is unknown, revoked or expired")]
    BadToken,
    #[error("the role '{role}' of this token does not allow {method}")]
    Forbidden { role: &'static str, method: String },
    /// `field`: the one of the route that says which paths it matches.
    #[error("route '{id}' matches the same requests as route '{other}'")]
    RouteCollision { id: String, other: String, field: &'static str },
    /// `field`: that of a key of several.
    #[error("key '{id}' has a secret that opens key '{other}' already")]
    SecretTaken { id: String, other: String, field: String },
    /// `field`: the etag of a config document that says so.
    #[error("{kind} '{id}' has changed since it was read")]
    Stale { kind: &'static str, id: String, field: String },
    #[error("the environment 'default' can't be deleted")]
    DefaultEnvironment,
    #[error(
        "no change of environment '{0}' was rolled out in rings yet: the next one is once it has a policy \
         (fgctl envs update {0} --rollout-ring)"
    )]
    NoRollout(String),
    #[error("the rollout of environment '{environment}' can't {what}: it is {state}")]
    RolloutState { environment: String, state: &'static str, what: &'static str },
    /// A question only nodes can answer.
    #[error("no node of environment '{environment}' answers: {why}")]
    NoNode { environment: String, why: String },
    /// One was asked, and can't tell.
    #[error("{0}")]
    Declined(String),
    #[error("{0} tails of the log are open here, which is all there may be: end one of them")]
    TooManyTails(usize),
    #[error(
        "{0} exports of the log are under way here, which is all there may be: end one of them"
    )]
    TooManyExports(usize),
    #[error(
        "nodes show no certificates to this control plane: start it with --node-ca-dir, then create \
         join tokens"
    )]
    NoNodeCa,
    #[error("the call took too long")]
    Deadline,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the operating system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// A bug: what was done to see it.
    #[error("{0}")]
    Bug(&'static str),
}

impl Error {
    /// The fault of one field of the request.
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(Violations::one(field, description))
    }

    /// The gRPC code, and a reason programs can tell failures apart by.
    fn kind(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELDS"),
            Self::Malformed(_) => (Code::InvalidArgument, "MALFORMED_MESSAGE"),
            Self::TooLarge(_) => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::NoToken => (Code::Unauthenticated, "NO_TOKEN"),
            Self::BadToken => (Code::Unauthenticated, "BAD_TOKEN"),
            Self::Forbidden { .. } => (Code::PermissionDenied, "ROLE_TOO_LOW"),
            Self::RouteCollision { .. } => (Code::AlreadyExists, "ROUTE_COLLISION"),
            Self::SecretTaken { .. } => (Code::AlreadyExists, "SECRET_TAKEN"),
            Self::Stale { .. } => (Code::Aborted, "STALE"),
            Self::DefaultEnvironment => (Code::FailedPrecondition, "DEFAULT_ENVIRONMENT"),
            Self::NoRollout(_) => (Code::NotFound, "NOT_FOUND"),
            Self::RolloutState { .. } => (Code::FailedPrecondition, "ROLLOUT_STATE"),
            Self::NoNode { .. } => (Code::Unavailable, "NO_NODE"),
            Self::Declined(_) => (Code::FailedPrecondition, "NODE_DECLINED"),
            Self::TooManyTails(_) => (Code::Unavailable, "TOO_MANY_TAILS"),
            Self::TooManyExports(_) => (Code::Unavailable, "TOO_MANY_EXPORTS"),
            Self::NoNodeCa => (Code::FailedPrecondition, "NO_NODE_CA"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
            Self::Store(fault) => match fault {
                StoreError::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
                StoreError::Exists { .. } => (Code::AlreadyExists, "EXISTS"),
                StoreError::Stale { .. } => (Code::Aborted, "STALE"),
                StoreError::RouteCollision { .. } => (Code::AlreadyExists, "ROUTE_COLLISION"),
                StoreError::NameTaken { .. } => (Code::AlreadyExists, "NAME_TAKEN"),
                StoreError::SecretTaken { .. } => (Code::AlreadyExists, "SECRET_TAKEN"),
                StoreError::UnknownUpstream { .. } => (Code::InvalidArgument, "UNKNOWN_UPSTREAM"),
                StoreError::UpstreamInUse { .. } => (Code::FailedPrecondition, "UPSTREAM_IN_USE"),
                StoreError::UnknownPlan { .. } => (Code::InvalidArgument, "UNKNOWN_PLAN"),
                StoreError::PlanInUse { .. } => (Code::FailedPrecondition, "PLAN_IN_USE"),
                StoreError::EnvironmentInUse { .. } => {
                    (Code::FailedPrecondition, "ENVIRONMENT_IN_USE")
                }
                StoreError::TooLarge { .. } => (Code::InvalidArgument, "OBJECT_TOO_LARGE"),
                StoreError::Full { .. } => (Code::ResourceExhausted, "ENVIRONMENT_FULL"),
                StoreError::RequestReused { .. } => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
                StoreError::LastOwner => (Code::FailedPrecondition, "LAST_OWNER"),
                StoreError::TooSlow => (Code::DeadlineExceeded, "SEARCH_TOO_LONG"),
                StoreError::Unavailable(_) => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
                StoreError::Internal(_) => (Code::Internal, "INTERNAL"),
            },
            Self::Random(_) | Self::Bug(_) => (Code::Internal, "INTERNAL"),
        }
    }

    /// What the caller reads. What a bug or the database says stays in the log.
    fn message(&self) -> String {
        match self.kind().0 {
            Code::Internal => "something went wrong in the control plane: its log says what".into(),
            Code::Aborted => format!("{self}: read it again and repeat the change"),
            _ => self.to_string(),
        }
    }

    /// The fields at fault, as the user wrote them.
    fn fields(&self) -> Vec<FieldViolation> {
        let one = |field: &str, description: String| vec![FieldViolation::new(field, description)];
        match self {
            Self::Invalid(faults) => faults
                .iter()
                .map(|fault| FieldViolation::new(&fault.field, &fault.description))
                .collect(),
            Self::Store(StoreError::UnknownUpstream { upstream, .. }) => one(
                "upstream",
                format!("names '{upstream}', which does not exist: create it first"),
            ),
            Self::Store(StoreError::UnknownPlan { plan }) => {
                one("plan_id", format!("names '{plan}', which does not exist: create it first"))
            }
            Self::Store(StoreError::PlanInUse { id, .. }) => one(
                "plan_id",
                format!(
                    "names '{id}', which keys are on: put them on another plan or on none first"
                ),
            ),
            Self::Store(StoreError::TooLarge { kind, bytes, most, .. }) => one(
                kind,
                format!("has {bytes} bytes, of which it may have {most}: make it smaller"),
            ),
            Self::Store(StoreError::NameTaken { other, .. }) => {
                one("name", format!("belongs to route '{other}': choose another"))
            }
            Self::SecretTaken { other, field, .. } => one(
                field,
                format!("hold a secret of key '{other}': one secret opens one key; rotate either"),
            ),
            Self::Store(StoreError::RequestReused { .. }) => {
                one("request_id", "was sent with another request before: choose a new one".into())
            }
            Self::Stale { field, .. } => {
                one(field, "is that of an earlier state: take the one that is stored".into())
            }
            Self::RouteCollision { other, field, .. } => one(
                field,
                format!(
                    "matches the same requests as route '{other}': change host, path, methods \
                     or priority"
                ),
            ),
            _ => Vec::new(),
        }
    }

    /// What the error is about, for programs.
    fn metadata(&self) -> HashMap<String, String> {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        match self {
            Self::Store(
                StoreError::NotFound { kind, id }
                | StoreError::Exists { kind, id }
                | StoreError::Stale { kind, id }
                | StoreError::TooLarge { kind, id, .. },
            )
            | Self::Stale { kind, id, .. } => pairs(&[("kind", kind), ("id", id)]),
            Self::Store(StoreError::UpstreamInUse { id, route }) => {
                pairs(&[("kind", "upstream"), ("id", id), ("route", route)])
            }
            Self::Store(StoreError::PlanInUse { id, keys }) => {
                pairs(&[("kind", "plan"), ("id", id), ("keys", &keys.to_string())])
            }
            Self::NoRollout(environment) => pairs(&[("kind", "rollout"), ("id", environment)]),
            Self::Forbidden { role, method } => pairs(&[("role", role), ("method", method)]),
            _ => HashMap::new(),
        }
    }

    fn log(&self) {
        match self.kind().0 {
            Code::Internal => {
                tracing::error!(error = %self, source = ?std::error::Error::source(self), "a call failed");
            }
            Code::Unavailable => {
                tracing::warn!(error = %self, source = ?std::error::Error::source(self), "a call failed");
            }
            _ => {}
        }
    }
}

impl From<Error> for Status {
    /// Every status made here carries details, `INTERNAL` ones too: what has none comes from
    /// tonic, which is how the access layer knows a message that could not be read.
    fn from(error: Error) -> Self {
        error.log();
        let (code, reason) = error.kind();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        let fields = error.fields();
        if !fields.is_empty() {
            details.set_bad_request(fields);
        }
        Self::with_error_details(code, error.message(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_become_field_violations() {
        let status = Status::from(Error::field("targets[0].url", "is no URL"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields = &details.bad_request().expect("a bad request").field_violations;
        let fields: Vec<_> = fields.iter().map(|f| (&*f.field, &*f.description)).collect();
        assert_eq!(fields, [("targets[0].url", "is no URL")]);
        let info = details.error_info().expect("an error info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELDS", DOMAIN));
    }

    #[test]
    fn what_a_bug_says_stays_inside() {
        let inner = std::io::Error::other("secret detail");
        for error in [Error::Bug("secret detail"), StoreError::Internal(Box::new(inner)).into()] {
            let status = Status::from(error);
            assert_eq!(status.code(), Code::Internal);
            assert!(!format!("{status:?}").contains("secret detail"));
            assert!(!status.details().is_empty());
        }
    }
}
