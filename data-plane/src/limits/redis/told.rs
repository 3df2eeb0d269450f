//! What the log is told of Redis: each change once, however many workers see it and however often.

use std::sync::{Mutex, PoisonError};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What it was told last.
#[derive(Default, Debug)]
pub(super) struct Told(Mutex<State>);

#[derive(Default, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Nothing,
    Counted,
    Away(String),
}

impl Told {
    /// Limits are counted in Redis.
    pub(super) fn counted(&self) {
        if self.is_new(State::Counted) {
            tracing::info!("limits are counted in redis");
        }
    }

    /// They are not, and why.
    pub(super) fn away(&self, why: &str) {
        if self.is_new(State::Away(why.to_owned())) {
            tracing::warn!("redis is away, limits do what their fallback says: {why}");
        }
    }

    fn is_new(&self, now: State) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *last != now;
        *last = now;
        is_new
    }
}

/// What an error says, and what can be done about it.
pub(super) fn why(fault: &RedisError) -> String {
    let mend = match fault.kind() {
        ErrorKind::AuthenticationFailed => "check user and password in --redis-url",
        ErrorKind::MasterNameNotFoundBySentinel => "check the master's name in --redis-url",
        // Redis says of what a script may not do that it is some error.
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => {
            "deploy/docs/SETTINGS.md tells what a node needs"
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            "name the master in --redis-url, or sentinels, which know it"
        }
        ErrorKind::Server(ServerErrorKind::Moved) => {
            "the server is one of a cluster: begin --redis-url with redis+cluster"
        }
        _ if fault.code() == Some("NOAUTH") => "give user and password in --redis-url",
        _ => return fault.to_string(),
    };
    format!("{fault}: {mend}")
}
