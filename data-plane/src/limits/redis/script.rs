//! How scripts are called: by their hash, and in full where a server does not know it.
//!
//! In full, and not loaded first: in a cluster that goes to the one server that has the keys. To
//! load a script means to reach them all, replicas too, and fails with any of them.

use futures_util::future::try_join_all;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, cmd};

use super::server::Connection;

/// How many keys a new connection is tried with. They lie apart, so that in a cluster all masters
/// but of the very largest get one; and a server that is one of a cluster is found out.
const TRIALS: usize = 32;

/// A script.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// What leases tokens.
    pub(super) fn limit() -> Self {
        Self::new(include_str!("../limit.lua"))
    }

    /// What reserves slots.
    pub(super) fn slots() -> Self {
        Self::new(include_str!("../slots.lua"))
    }

    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Calls it.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        connection: &mut Connection,
        keys: &[impl AsRef<str>],
        arguments: impl Iterator<Item = u64> + Clone,
    ) -> RedisResult<T> {
        let command = |verb: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(verb).arg(script).arg(keys.len());
            for key in keys {
                command.arg(key.as_ref());
            }
            for argument in arguments.clone() {
                command.arg(argument);
            }
            command
        };
        let outcome = command("EVALSHA", &self.hash).query_async(connection).await;
        match outcome {
            Err(fault) if fault.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.code).query_async(connection).await
            }
            outcome => outcome,
        }
    }
}

/// Finds out whether limits can be counted over a connection.
pub(super) async fn try_out(connection: &Connection) -> RedisResult<()> {
    cmd("PING").query_async::<()>(&mut connection.clone()).await?;
    let trial = &Script::new(include_str!("trial.lua"));
    let trials = (0..TRIALS).map(|number| {
        let mut own = connection.clone();
        async move {
            let key = format!("fg:rl:{{trial:{number}}}");
            trial.call::<()>(&mut own, &[key], std::iter::empty()).await
        }
    });
    try_join_all(trials).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// What a script calls of Redis.
    fn calls(script: &str) -> BTreeSet<&str> {
        let code = script.lines().filter(|line| !line.starts_with("--"));
        let behind = code.flat_map(|line| line.split("call('").skip(1));
        behind.filter_map(|call| call.split('\'').next()).collect()
    }

    #[test]
    fn the_trial_does_what_the_limits_do() {
        let tried = calls(include_str!("trial.lua"));
        assert_eq!(tried, calls(include_str!("../limit.lua")));
        assert_eq!(tried, calls(include_str!("../slots.lua")));
        assert_eq!(tried, BTreeSet::from(["DEL", "GET", "SET", "TIME"]));
    }
}
