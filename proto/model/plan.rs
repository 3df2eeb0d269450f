//! Plans: limits that many keys share the wording of, and each has for itself.

use super::{Fallback, Id, Limit, RateLimit, Violations, check};
use crate::admin::v1;

/// A named set of limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Chosen by the user; keys name it.
    pub plan_id: Id,
    /// For each of its keys, over all routes; `None`: the environment's default.
    pub limit: Option<Limit>,
}

impl Plan {
    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::Plan) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let plan_id = faults.take("plan_id", Id::parse(&wire.plan_id), Id::unknown());
        faults.take("description", check::text(&wire.description), String::new());
        let rate = wire.rate_limit.map(RateLimit::parse).transpose();
        let rate = faults.take("rate_limit", rate, None);
        let fallback = Fallback::parse(&wire.rate_limit_fallback);
        let fallback = faults.take("rate_limit_fallback", fallback, Fallback::default());
        faults.or(Self { plan_id, limit: rate.map(|rate| Limit { rate, fallback }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate_limit: Option<i64>, fallback: &str) -> v1::Plan {
        v1::Plan {
            plan_id: "gold".into(),
            rate_limit,
            rate_limit_fallback: fallback.into(),
            ..v1::Plan::default()
        }
    }

    #[test]
    fn a_plan_says_what_was_written() {
        let limit = |rate, fallback| {
            let plan = Plan::parse(&plan(rate, fallback)).expect("a plan");
            assert_eq!(plan.plan_id.as_str(), "gold");
            plan.limit.map(|limit| (limit.rate.per_minute(), limit.fallback))
        };
        assert_eq!(limit(None, ""), None);
        assert_eq!(limit(Some(1), ""), Some((1, Fallback::LocalShare)));
        assert_eq!(limit(Some(60), "open"), Some((60, Fallback::Open)));
        assert_eq!(limit(Some(1_000_000_000), "closed"), Some((1_000_000_000, Fallback::Closed)));
    }

    #[test]
    fn a_bad_rate_is_told_with_field_value_and_mend() {
        for rate in [0, -1, 1_000_000_001, i64::MAX, i64::MIN] {
            let told = Plan::parse(&plan(Some(rate), "")).expect_err("a fault").to_string();
            let mend = "give requests a minute, from 1 to 1000000000";
            assert_eq!(told, format!("rate_limit: is {rate}: {mend}"));
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let wire = v1::Plan {
            plan_id: "Gold!".into(),
            description: "a\nb".into(),
            ..plan(Some(0), "maybe")
        };
        let faults = Plan::parse(&wire).expect_err("faults");
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["plan_id", "description", "rate_limit", "rate_limit_fallback"]);
    }
}
