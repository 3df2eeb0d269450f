//! Plans: limits that many keys share the wording of, and each has for itself.

use super::{Fallback, Id, Limit, NamedLimit, RateLimit, Violations, check, labels};
use crate::admin::v1;

/// A named set of limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Chosen by the user; keys name it.
    pub plan_id: Id,
    /// What its `rate_limit` says, for each of its keys, over all routes.
    pub limit: Option<Limit>,
    /// Further ones, beside it or a rate of the key's own.
    pub limits: Vec<NamedLimit>,
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
        let limits = NamedLimit::parse_all(&wire.limits, false, &mut faults);
        labels::check(&wire.labels, &mut faults);
        let limit = rate.map(|rate| Limit::a_minute(rate, fallback));
        faults.or(Self { plan_id, limit, limits })
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
            plan.limit
        };
        assert_eq!(limit(None, ""), None);
        let a_minute = |rate, fallback| {
            let rate = RateLimit::parse(rate).expect("a rate");
            Some(Limit::a_minute(rate, fallback))
        };
        assert_eq!(limit(Some(1), ""), a_minute(1, Fallback::LocalShare));
        assert_eq!(limit(Some(60), "open"), a_minute(60, Fallback::Open));
        let most = 1_000_000_000;
        assert_eq!(limit(Some(most), "closed"), a_minute(most, Fallback::Closed));
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
            limits: vec![v1::Limit::default()],
            ..plan(Some(0), "maybe")
        };
        let faults = Plan::parse(&wire).expect_err("faults");
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let own = ["plan_id", "description", "rate_limit", "rate_limit_fallback"];
        assert_eq!(fields[..4], own);
        assert_eq!(fields[4..], ["limits[0].name", "limits[0].amount"]);
    }
}
