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
                let rate = rate.map_err(|fault| format!("{fault}, or 0 for no limit"));
                faults.take("default_rate_limit", rate, None)
            }
        };
        faults.or(Self { default_rate_limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_limit_may_be_none_and_is_told_so() {
        let parse = |default_rate_limit| Settings::parse(&v1::Settings { default_rate_limit });
        assert_eq!(parse(0).expect("no limit").default_rate_limit, None);
        let limit = parse(60).expect("a limit").default_rate_limit.expect("one");
        assert_eq!(limit.per_minute(), 60);
        for wrong in [-1, 1_000_000_001] {
            let faults = parse(wrong).expect_err("a fault").to_string();
            let told = "give requests a minute, from 1 to 1000000000, or 0 for no limit";
            assert_eq!(faults, format!("default_rate_limit: is {wrong}: {told}"));
        }
    }
}
