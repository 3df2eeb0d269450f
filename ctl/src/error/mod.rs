//! Everything that can go wrong, and how it is told: what is wrong, where, and what to do.

mod dev;
mod faults;
mod refusal;

use std::{fmt::Write as _, io, path::PathBuf};

use fastgate::escape::is_unsafe;
use thiserror::Error;
use tonic::Status;

pub(crate) use self::{
    dev::DevError,
    faults::{Fault, Faults},
    refusal::Refusal,
};

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A config document has faults.
    #[error("{0}")]
    Document(#[from] Faults),
    /// A setting, a context or the file of one can't be used.
    #[error("{what}: {fault}")]
    Setting {
        /// The setting or file.
        what: String,
        /// What is wrong with it, and the mend.
        fault: String,
    },
    /// A file can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No connection to the control plane.
    #[error("can't reach the control plane at {addr}: {fault}")]
    Connect {
        /// The address tried.
        addr: String,
        /// The innermost reason.
        fault: String,
    },
    /// Whoever is there is not known to be the control plane.
    #[error("can't trust the control plane at {addr}: {fault}")]
    Untrusted {
        /// The address tried.
        addr: String,
        /// What is wrong.
        fault: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The control plane said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Nodes that do not have a change yet.
    #[error(
        "it is stored, but after {seconds} seconds not all nodes have revision {revision}: {nodes}"
    )]
    Behind {
        /// The config's.
        revision: u64,
        /// How long they were waited for.
        seconds: u32,
        /// Each, with what it has.
        nodes: String,
    },
    /// Nodes that will not take a change.
    #[error("it is stored, but not all nodes take revision {revision}: {nodes}")]
    NotTaken {
        /// The config's.
        revision: u64,
        /// Each, with what it says is wrong.
        nodes: String,
    },
    /// A change that is in force nowhere any more.
    #[error("it was stored as revision {revision}, but taken back: {rollout}")]
    TakenBack {
        /// The config's.
        revision: u64,
        /// How the rollout ended.
        rollout: String,
    },
    /// This process can't begin its work.
    #[error("can't start: {0}")]
    Start(io::Error),
    /// The answer can't be written out.
    #[error("can't write the answer: {0}")]
    Output(#[from] io::Error),
    /// The answer can't be put into the form asked for.
    #[error("can't show the answer: {0}")]
    Show(String),
    /// `fgctl dev` can't go on.
    #[error("{0}")]
    Dev(#[from] DevError),
}

impl Error {
    /// Whether the reader of our output went away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// How the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Document(_)
            | Self::Setting { .. }
            | Self::File { .. }
            | Self::Connect { .. }
            | Self::Untrusted { .. }
            | Self::Refused(_)
            | Self::Behind { .. }
            | Self::NotTaken { .. }
            | Self::TakenBack { .. }
            | Self::Start(_)
            | Self::Output(_)
            | Self::Show(_)
            | Self::Dev(_) => 1,
        }
    }

    /// What is printed about it, with a line for each detail and one that says what to do.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}\n");
        if let Self::Refused(refusal) = self {
            for detail in refusal.details() {
                // Writing to a String can't fail.
                let _ = writeln!(text, "  {detail}");
            }
        }
        if let Some(mend) = self.mend() {
            let _ = writeln!(text, "  {mend}");
        }
        text
    }

    fn mend(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } => {
                Some("is the control plane running? give its address with --addr or FGCTL_ADDR")
            }
            Self::Untrusted { mend, .. } => Some(mend),
            Self::Refused(refusal) => refusal.mend(),
            Self::Dev(fault) => fault.mend(),
            Self::NotTaken { .. } => {
                Some("they keep what they had: mend it, or go back with fgctl config rollback")
            }
            _ => None,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(status.into())
    }
}

/// Text from elsewhere with what a terminal obeys written out.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn each_violation_has_its_line() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_ROUTE", "fastgate", [("a".into(), "b".into())])
            .add_bad_request_violation("route.path", "is missing: give 'path' or 'path_prefix'")
            .add_bad_request_violation("route.timeout", "is -1\u{1b}[31m: give seconds above 0");
        let message = "the route is not valid: route.path: is missing: give 'path' or \
                       'path_prefix'; route.timeout: is -1\u{1b}[31m: give seconds above 0";
        let status = Status::with_error_details(Code::InvalidArgument, message, details);
        insta::assert_snapshot!(Error::from(status).report(), @r"
        error: the route is not valid (INVALID_ROUTE)
          route.path: is missing: give 'path' or 'path_prefix'
          route.timeout: is -1\u{1b}[31m: give seconds above 0
        ");
    }

    #[test]
    fn an_error_says_what_to_do() {
        for (error, expected) in [
            (Error::from(Status::unauthenticated("no token was sent")), "FGCTL_TOKEN"),
            (Error::from(Status::aborted("the etag is stale")), "with its etag"),
            (Error::from(Status::deadline_exceeded("")), "--request-timeout"),
            (
                Error::Connect { addr: "http://127.0.0.1:9".into(), fault: "refused".into() },
                "--addr or FGCTL_ADDR",
            ),
        ] {
            let report = error.report();
            assert!(report.starts_with("error: ") && report.contains(expected), "{report}");
            assert_eq!(error.exit_code(), 1);
        }
        assert_eq!(Error::Usage("nothing to change".into()).exit_code(), 2);
    }

    #[test]
    fn only_a_closed_reader_is_no_error() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Error::from(broken).is_broken_pipe());
        assert!(!Error::from(io::Error::from(io::ErrorKind::StorageFull)).is_broken_pipe());
    }
}
