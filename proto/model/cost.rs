//! What a request costs of a limit.

use std::num::NonZeroU32;

use http::HeaderName;

use super::{Tokens, Violations, rate::count};
use crate::admin::v1;

/// How many units a request takes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Cost {
    /// So many, when it is admitted.
    Fixed(NonZeroU32),
    /// As many as it turns out to, when it is over.
    Charged(Charge),
}

/// What a request turns out to cost.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Charge {
    /// The bytes of its body.
    RequestBytes,
    /// Those of its answer's body.
    ResponseBytes,
    /// The number in this header of its answer.
    Header(HeaderName),
}

impl Cost {
    /// One unit.
    pub const ONE: Self = Self::Fixed(NonZeroU32::MIN);

    /// The wire form: `cost` and `charge`.
    pub(super) fn to_wire(&self) -> (Option<i64>, String) {
        match self {
            Self::Fixed(NonZeroU32::MIN) => (None, String::new()),
            Self::Fixed(units) => (Some(units.get().into()), String::new()),
            Self::Charged(Charge::RequestBytes) => (None, "request_bytes".into()),
            Self::Charged(Charge::ResponseBytes) => (None, "response_bytes".into()),
            Self::Charged(Charge::Header(name)) => (None, format!("header:{name}")),
        }
    }

    /// Reads the wire form of what a request costs of so many tokens; `None`: of nobody knows how many.
    pub(super) fn parse(wire: &v1::Limit, tokens: Option<Tokens>, faults: &mut Violations) -> Self {
        let charge = match wire.charge.as_str() {
            "" => None,
            "request_bytes" => Some(Charge::RequestBytes),
            "response_bytes" => Some(Charge::ResponseBytes),
            text => {
                let name = text.strip_prefix("header:").map(str::as_bytes);
                let name = name.and_then(|name| HeaderName::from_bytes(name).ok());
                if name.is_none() {
                    let mend = "give request_bytes, response_bytes or header:NAME";
                    faults.add("charge", format!("is '{}': {mend}", text.escape_debug()));
                }
                name.map(Charge::Header)
            }
        };
        let Some(cost) = wire.cost else { return charge.map_or(Self::ONE, Self::Charged) };
        if charge.is_some() {
            faults.add("cost", "is given beside charge: give one of them");
        }
        let (most, larger) = match tokens {
            Some(Tokens::Rate(rate)) => (rate.burst().into(), "burst"),
            Some(Tokens::Quota(quota)) => (quota.amount(), "amount"),
            None => (u64::MAX, "amount"),
        };
        match count(cost, "units") {
            Ok(cost) if u64::from(cost.get()) > most => {
                let fault = format!(
                    "is {cost}, which is never there at once: give {most} at most, or a larger {larger}"
                );
                faults.add("cost", fault);
            }
            Ok(cost) => return Self::Fixed(cost),
            Err(fault) => faults.add("cost", fault),
        }
        Self::ONE
    }
}
