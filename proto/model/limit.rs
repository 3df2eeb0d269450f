//! Rate limits: how many, and what holds while the shared counter is away.

use std::num::NonZeroU32;

use super::bounds;

/// A limit in requests a minute: a bucket of that many tokens, refilled at a sixtieth a second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RateLimit(NonZeroU32);

impl RateLimit {
    /// Reads requests a minute.
    ///
    /// # Errors
    /// What is wrong with the number and how to mend it.
    pub fn parse(per_minute: i64) -> Result<Self, String> {
        u32::try_from(per_minute)
            .ok()
            .filter(|_| per_minute <= bounds::RATE)
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| {
                format!("is {per_minute}: give requests a minute, from 1 to {}", bounds::RATE)
            })
    }

    /// Requests a minute.
    #[must_use]
    pub const fn per_minute(self) -> u32 {
        self.0.get()
    }
}

/// What a limit does while Redis is away.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum Fallback {
    /// Every node enforces its share: the limit divided by the number of nodes.
    #[default]
    LocalShare,
    /// Every request is admitted.
    Open,
    /// Every request is refused with 503.
    Closed,
}

impl Fallback {
    /// Reads the wire form; empty is the default.
    ///
    /// # Errors
    /// What is wrong with the text and how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "local_share" => Ok(Self::LocalShare),
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err("must be 'local_share', 'open' or 'closed'".into()),
        }
    }
}

/// A rate with its fallback: what a key or a route asks of the limiter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limit {
    /// How many.
    pub rate: RateLimit,
    /// What holds while Redis is away.
    pub fallback: Fallback,
}
