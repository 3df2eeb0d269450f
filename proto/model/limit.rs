//! Limits: of what and how much, and what holds while the shared counter is away.

use std::num::NonZeroU32;

use super::{Calendar, Cost, Id, Period, Quota, Rate, RateLimit, Violations, bounds, rate::count};
use crate::admin::v1;

/// What is asked of the limiter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limit {
    /// How much.
    pub measure: Measure,
    /// What holds while Redis is away.
    pub fallback: Fallback,
    /// Counts and reports what it would refuse, and refuses nothing.
    pub shadow: bool,
}

/// How much a limit admits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Measure {
    /// So much in a time.
    Tokens(Tokens),
    /// So many requests at a time.
    Concurrent(NonZeroU32),
}

/// How much a limit admits in a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tokens {
    /// In any time, refilled all along.
    Rate(Rate),
    /// In a day or month.
    Quota(Quota),
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

/// One of the limits of a plan or route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedLimit {
    /// What clients are told it is called.
    pub name: Id,
    /// Whose requests it counts together.
    pub counts: Counts,
    /// What it admits.
    pub limit: Limit,
    /// What a request takes of it.
    pub cost: Cost,
}

/// Whose requests a limit counts together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counts {
    /// Those of a key; of an address where no key is asked for.
    Each,
    /// Those of everybody, on one route.
    All,
}

impl Limit {
    /// Requests a minute.
    #[must_use]
    pub fn a_minute(rate: RateLimit, fallback: Fallback) -> Self {
        let measure = Measure::Tokens(Tokens::Rate(rate.into()));
        Self { measure, fallback, shadow: false }
    }
}

impl Measure {
    fn parse(wire: &v1::Limit) -> Result<Self, (&'static str, String)> {
        let rate = |period| {
            let rate = Rate::parse(wire.amount, period, wire.burst);
            rate.map(|rate| Self::Tokens(Tokens::Rate(rate)))
        };
        let without_burst = |measure: Result<Self, String>| match wire.burst {
            Some(_) => Err(("burst", "is for a second, minute or hour: leave it out".into())),
            None => measure.map_err(|fault| ("amount", fault)),
        };
        let quota = |calendar| {
            let quota = Quota::parse(wire.amount, calendar);
            without_burst(quota.map(|quota| Self::Tokens(Tokens::Quota(quota))))
        };
        match wire.period.as_str() {
            "second" => rate(Period::Second),
            "" | "minute" => rate(Period::Minute),
            "hour" => rate(Period::Hour),
            "day" => quota(Calendar::Day),
            "month" => quota(Calendar::Month),
            "concurrent" => {
                without_burst(count(wire.amount, "requests at a time").map(Self::Concurrent))
            }
            other => Err(("period", unknown_period(other))),
        }
    }
}

fn unknown_period(period: &str) -> String {
    format!("is '{}': give second, minute, hour, day, month or concurrent", period.escape_debug())
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

    fn name(self) -> &'static str {
        match self {
            Self::LocalShare => "local_share",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl Limit {
    /// The wire form, with a name and what a request takes of it.
    #[must_use]
    pub fn to_wire(&self, name: &str, counts: Counts, cost: &Cost) -> v1::Limit {
        let (amount, period, burst) = match self.measure {
            Measure::Tokens(Tokens::Rate(rate)) => {
                (rate.amount().into(), rate.period().name(), Some(rate.burst().into()))
            }
            Measure::Tokens(Tokens::Quota(quota)) => {
                (quota.amount(), quota.calendar().name(), None)
            }
            Measure::Concurrent(most) => (most.get().into(), "concurrent", None),
        };
        let (cost, charge) = cost.to_wire();
        v1::Limit {
            name: name.to_owned(),
            // At most the largest quota.
            amount: i64::try_from(amount).unwrap_or(i64::MAX),
            period: period.to_owned(),
            burst,
            counts: match counts {
                Counts::Each => String::new(),
                Counts::All => "all".to_owned(),
            },
            fallback: self.fallback.name().to_owned(),
            shadow: self.shadow,
            cost,
            charge,
        }
    }
}

impl NamedLimit {
    /// What clients are told limits without a name of their own are called.
    const TAKEN: [&str; 2] = ["key", "route"];

    /// Reads the limits of a plan or route. Only a route's can count everybody together.
    pub(super) fn parse_all(
        wire: &[v1::Limit],
        may_count_all: bool,
        faults: &mut Violations,
    ) -> Vec<Self> {
        if wire.len() > bounds::LIMITS {
            let (given, most) = (wire.len(), bounds::LIMITS);
            faults.add("limits", format!("are {given}: give {most} at most"));
        }
        let mut limits: Vec<Self> = Vec::with_capacity(wire.len());
        for (at, wire) in wire.iter().enumerate() {
            let field = format!("limits[{at}]");
            match Self::parse(wire, may_count_all) {
                Ok(limit) if limits.iter().any(|other| other.name == limit.name) => {
                    let fault = format!("is '{}' again: give each limit another name", limit.name);
                    faults.add(format!("{field}.name"), fault);
                }
                Ok(limit) => limits.push(limit),
                Err(part) => faults.add_below(&field, part),
            }
        }
        limits
    }

    fn parse(wire: &v1::Limit, may_count_all: bool) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let name = match Id::parse(&wire.name) {
            Ok(name) if Self::TAKEN.contains(&name.as_str()) => {
                Err(format!("is '{name}', which names what rate_limit says: give another one"))
            }
            name => name,
        };
        let name = faults.take("name", name, Id::unknown());
        let counts = match wire.counts.as_str() {
            "" | "each" => Ok(Counts::Each),
            "all" if may_count_all => Ok(Counts::All),
            "all" => Err("is 'all', which only a route's limit can be: leave it out".into()),
            _ => Err("must be 'each' or 'all'".into()),
        };
        let counts = faults.take("counts", counts, Counts::Each);
        let fallback = Fallback::parse(&wire.fallback);
        let fallback = faults.take("fallback", fallback, Fallback::default());
        match Measure::parse(wire) {
            Ok(measure) => {
                let cost = match measure {
                    Measure::Tokens(tokens) => Cost::parse(wire, Some(tokens), &mut faults),
                    Measure::Concurrent(_) => {
                        for (field, is_given) in
                            [("cost", wire.cost.is_some()), ("charge", !wire.charge.is_empty())]
                        {
                            if is_given {
                                faults.add(field, "is not for concurrent: leave it out");
                            }
                        }
                        Cost::ONE
                    }
                };
                let limit = Limit { measure, fallback, shadow: wire.shadow };
                faults.or(Self { name, counts, limit, cost })
            }
            Err((field, fault)) => {
                faults.add(field, fault);
                if field == "period" && wire.amount < 1 {
                    faults.add("amount", format!("is {}: give 1 or more", wire.amount));
                }
                Cost::parse(wire, None, &mut faults);
                Err(faults)
            }
        }
    }
}

/// Which whole numbers a field takes, for people whose number is none, or is larger than any field of a
/// message can hold; the fields are those that limits are told in, and others.
#[must_use]
pub fn numbers_of(field: &str) -> &'static str {
    match field {
        "rate_limit" | "burst" | "cost" => "a whole number from 1 to 1000000000",
        "default_rate_limit" => "a whole number from 0 to 1000000000",
        "amount" => "a whole number from 1 to 1000000000, to 1000000000000 of a day or month",
        _ => "a whole number of at most 63 bits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Charge;

    #[test]
    fn numbers_are_told_as_they_are_bounded() {
        for field in ["rate_limit", "default_rate_limit", "burst", "cost", "amount"] {
            let (least, told) = (i64::from(field != "default_rate_limit"), numbers_of(field));
            let from_to = format!("a whole number from {least} to {}", bounds::RATE);
            assert!(told.starts_with(&from_to), "{field}: {told}");
        }
        assert!(numbers_of("amount").contains(&bounds::QUOTA.to_string()));
    }

    fn wire(name: &str, amount: i64, period: &str) -> v1::Limit {
        v1::Limit { name: name.into(), amount, period: period.into(), ..v1::Limit::default() }
    }

    fn parse(wire: &[v1::Limit]) -> Result<Vec<NamedLimit>, String> {
        let mut faults = Violations::default();
        let limits = NamedLimit::parse_all(wire, false, &mut faults);
        faults.or(limits).map_err(|faults| faults.to_string())
    }

    #[test]
    fn limits_say_what_was_written() {
        let limits = [
            wire("a", 5, "second"),
            wire("b", 5, ""),
            wire("c", 5, "month"),
            wire("d", 5, "concurrent"),
        ];
        let limits = parse(&limits).expect("limits");
        let told: Vec<_> = limits.iter().map(|limit| limit.limit.measure).collect();
        let rate =
            |period| Measure::Tokens(Tokens::Rate(Rate::parse(5, period, None).expect("a rate")));
        let quota = Quota::parse(5, Calendar::Month).expect("a quota");
        let quota = Measure::Tokens(Tokens::Quota(quota));
        let concurrent = Measure::Concurrent(NonZeroU32::new(5).expect("a number"));
        assert_eq!(told, [rate(Period::Second), rate(Period::Minute), quota, concurrent]);
    }

    #[test]
    fn what_was_read_is_written_the_same() {
        let charged = v1::Limit { charge: "header:x-cost".into(), ..wire("e", 5, "second") };
        let limits = [
            v1::Limit { burst: Some(9), cost: Some(2), ..wire("a", 5, "hour") },
            v1::Limit { shadow: true, ..wire("b", 5, "day") },
            v1::Limit { fallback: "closed".into(), ..wire("c", 5, "month") },
            wire("d", 5, "concurrent"),
            charged,
        ];
        let read = parse(&limits).expect("valid");
        let write = |limit: &NamedLimit| {
            limit.limit.to_wire(limit.name.as_str(), limit.counts, &limit.cost)
        };
        let written: Vec<_> = read.iter().map(write).collect();
        assert_eq!(parse(&written), Ok(read));
        assert_eq!((written[0].burst, written[4].charge.as_str()), (Some(9), "header:x-cost"));
    }

    #[test]
    fn requests_cost_what_was_written() {
        let limit = |cost, charge: &str| {
            let limit = v1::Limit { cost, charge: charge.into(), ..wire("a", 50, "") };
            parse(&[limit]).expect("valid").remove(0).cost
        };
        assert_eq!(limit(None, ""), Cost::ONE);
        assert_eq!(limit(Some(50), ""), Cost::Fixed(NonZeroU32::new(50).expect("a number")));
        assert_eq!(limit(None, "response_bytes"), Cost::Charged(Charge::ResponseBytes));
        let header = http::HeaderName::from_static("x-cost");
        assert_eq!(limit(None, "header:X-Cost"), Cost::Charged(Charge::Header(header)));
    }

    #[test]
    fn what_is_wrong_is_told_with_field_value_and_mend() {
        let burst = v1::Limit { burst: Some(2), ..wire("a", 5, "day") };
        let costs = |period: &str, cost, charge: &str| {
            let charge = charge.to_owned();
            v1::Limit { cost, charge, ..wire("a", 5, period) }
        };
        let all = v1::Limit { counts: "all".into(), ..wire("a", 5, "hour") };
        for (limit, told) in [
            (wire("", 5, ""), "name: is missing: give an id"),
            (
                wire("key", 5, ""),
                "name: is 'key', which names what rate_limit says: give another one",
            ),
            (
                wire("a", 5, "week"),
                "period: is 'week': give second, minute, hour, day, month or concurrent",
            ),
            (wire("a", 0, "hour"), "amount: is 0: give units a period, from 1 to 1000000000"),
            (wire("a", -1, "day"), "amount: is -1: give units a period, from 1 to 1000000000000"),
            (
                wire("a", 0, "concurrent"),
                "amount: is 0: give requests at a time, from 1 to 1000000000",
            ),
            (burst, "burst: is for a second, minute or hour: leave it out"),
            (all, "counts: is 'all', which only a route's limit can be: leave it out"),
            (costs("second", Some(0), ""), "cost: is 0: give units, from 1 to 1000000000"),
            (
                costs("day", Some(6), ""),
                "cost: is 6, which is never there at once: give 5 at most, or a larger amount",
            ),
            (
                costs("hour", Some(6), ""),
                "cost: is 6, which is never there at once: give 5 at most, or a larger burst",
            ),
            (
                costs("", None, "header:a b"),
                "charge: is 'header:a b': give request_bytes, response_bytes or header:NAME",
            ),
            (costs("", Some(1), "request_bytes"), "cost: is given beside charge: give one of them"),
            (costs("concurrent", Some(1), ""), "cost: is not for concurrent: leave it out"),
            (
                costs("concurrent", None, "request_bytes"),
                "charge: is not for concurrent: leave it out",
            ),
        ] {
            assert_eq!(parse(&[limit]), Err(format!("limits[0].{told}")));
        }
        // The first of several mistakes hides none of the others.
        let all_wrong = v1::Limit { cost: Some(0), ..wire("a", -1, "week") };
        let told = "limits[0].period: is 'week': give second, minute, hour, day, month or concurrent; \
                    limits[0].amount: is -1: give 1 or more; \
                    limits[0].cost: is 0: give units, from 1 to 1000000000";
        assert_eq!(parse(&[all_wrong]), Err(told.into()));
        let twice = [wire("a", 5, ""), wire("a", 5, "day")];
        let told = "limits[1].name: is 'a' again: give each limit another name";
        assert_eq!(parse(&twice), Err(told.into()));
        let many: Vec<_> = (0..9).map(|at| wire(&format!("l{at}"), 5, "")).collect();
        assert_eq!(parse(&many), Err("limits: are 9: give 8 at most".into()));
    }
}
