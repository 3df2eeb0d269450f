//! A connection for a look at where limits stand, beside those of the workers.

use redis::{RedisResult, cmd};

use super::{
    script::Script,
    server::{Connection, Server},
};
use crate::limits::{
    ask::{Ask, Back, Grant},
    gcra::{Bucket, Refill},
};

/// Looks at buckets, one after the other: they lie anywhere in a cluster.
pub(in crate::limits) struct Looker {
    connection: Connection,
    script: Script,
}

impl Looker {
    pub(in crate::limits) async fn connect(server: &Server) -> RedisResult<Self> {
        Ok(Self { connection: server.connect().await?, script: Script::limit() })
    }

    /// What the script says to an ask about one bucket.
    pub(in crate::limits) async fn limit(&mut self, name: &str, ask: Ask) -> RedisResult<Vec<u64>> {
        let arguments = ask.arguments().into_iter();
        self.script.call(&mut self.connection, &[name], arguments).await
    }

    /// How many slots of a bucket are held.
    pub(in crate::limits) async fn slots(&mut self, name: &str) -> RedisResult<u64> {
        let value: Option<String> = cmd("GET").arg(name).query_async(&mut self.connection).await?;
        let value = value.unwrap_or_default();
        // "holder slots end;", as slots.lua has it.
        let held = value.split(';').filter_map(|held| held.split(' ').nth(1)?.parse::<u64>().ok());
        Ok(held.sum())
    }

    /// Makes a bucket full. A quota is so from then on, whatever is stored of its use.
    pub(in crate::limits) async fn fill(&mut self, name: &str, bucket: Bucket) -> RedisResult<()> {
        if bucket.refill == Refill::Steady {
            return cmd("DEL").arg(name).query_async(&mut self.connection).await;
        }
        let back = Back::default();
        let ask = Ask { bucket, want: 0, spent: 0, back, floor: 0, is_recall: true };
        let numbers = self.limit(name, ask).await?;
        if let Some(grant) = Grant::read(&numbers) {
            let back = Back { tokens: bucket.tokens() + 1, mark: grant.mark };
            self.limit(name, Ask { back, ..ask }).await?;
        }
        Ok(())
    }
}
