//! What holds for a whole environment.

use super::{RateLimit, Violations};
use crate::node::v1;

/// What holds for a whole environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// For keys without a limit of their own; `None`: no limit.
    pub default_rate_limit: Option<RateLimit>,
}

impl Settings {
    /// The limit of keys without one, in an environment that says nothing: requests a minute.
    pub const DEFAULT_RATE_LIMIT: i64 = 100;

    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::Settings) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let default_rate_limit = match wire.default_rate_limit {
            0 => None,
            per_minute => {
                let rate = RateLimit::parse(per_minute).map(Some);
                faults.take("default_rate_limit", rate, None)
            }
        };
        faults.or(Self { default_rate_limit })
    }
}
