//! A connection for a look at where limits stand, beside those of the workers.

use redis::RedisResult;

use super::{
    script::Script,
    server::{Connection, Server},
};
use crate::limits::ask::Ask;

/// Looks at buckets, one after the other: they lie anywhere in a cluster.
pub(in crate::limits) struct Looker {
    connection: Connection,
    limit: Script,
    slots: Script,
}

impl Looker {
    pub(in crate::limits) async fn connect(server: &Server) -> RedisResult<Self> {
        let connection = server.connect().await?;
        Ok(Self { connection, limit: Script::limit(), slots: Script::slots() })
    }

    /// What the script says to an ask about one bucket.
    pub(in crate::limits) async fn limit(&mut self, name: &str, ask: Ask) -> RedisResult<Vec<u64>> {
        let arguments = ask.arguments().into_iter();
        self.limit.call(&mut self.connection, &[name], arguments).await
    }

    /// How many slots of a bucket are held, each for so many milliseconds at most.
    pub(in crate::limits) async fn slots(&mut self, name: &str, life: u64) -> RedisResult<u64> {
        let (nobody, slots, want) = (0, 0, 0);
        let arguments = [nobody, slots, want, life].into_iter();
        self.slots.call(&mut self.connection, &[name], arguments).await
    }
}
