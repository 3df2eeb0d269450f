//! The options of `fgctl limits`, and how a limit is written: `daily=100000/day`,
//! `calls=50/second,burst=100`.

use std::{
    num::{IntErrorKind, ParseIntError},
    str::FromStr,
};

use clap::Subcommand;
use fastgate::model::bounds;

#[derive(Subcommand, Debug)]
pub(crate) enum LimitCommand {
    /// Shows where all limits stand that a key's requests can meet
    Show {
        /// The key's id
        key_id: String,
    },
    /// Makes the key's own limits full again, on every node and whether or not Redis is there
    Reset {
        /// The key's id
        key_id: String,
    },
}

/// A limit of a plan or route, as written.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct LimitArg {
    pub(crate) name: String,
    pub(crate) amount: i64,
    pub(crate) period: String,
    pub(crate) burst: Option<i64>,
    pub(crate) cost: Option<i64>,
    pub(crate) charge: String,
    pub(crate) counts: String,
    pub(crate) fallback: String,
    pub(crate) shadow: bool,
}

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write NAME=AMOUNT/PERIOD, such as daily=100000/day or calls=50/second,burst=100";
        let mut parts = text.split(',');
        let (name, measure) = parts.next().and_then(|first| first.split_once('=')).ok_or(FORM)?;
        let (amount, period) = measure.split_once('/').ok_or(FORM)?;
        let amount = whole("amount", amount).map_err(|fault| format!("{fault}: {FORM}"))?;
        let (name, period) = (name.to_owned(), period.to_owned());
        let mut limit = Self { name, amount, period, ..Self::default() };
        let mut given = Vec::new();
        for part in parts {
            let (option, value) = part.split_once('=').unwrap_or((part, ""));
            if given.contains(&option) {
                return Err(format!("{option} is given twice: give it once"));
            }
            given.push(option);
            match (option, value) {
                ("burst", burst) => limit.burst = Some(whole("burst", burst)?),
                ("counts", counts) => limit.counts = counts.into(),
                ("fallback", fallback) => limit.fallback = fallback.into(),
                ("shadow", "" | "true") => limit.shadow = true,
                ("cost", cost) => limit.cost = Some(whole("cost", cost)?),
                ("charge", charge) => limit.charge = charge.into(),
                _ => {
                    return Err(format!(
                        "'{part}' is unknown: give burst=N, counts=all, fallback=WAY, cost=N, \
                         charge=WHAT or shadow"
                    ));
                }
            }
        }
        Ok(limit)
    }
}

fn whole(what: &str, text: &str) -> Result<i64, String> {
    text.parse().map_err(|fault: ParseIntError| match fault.kind() {
        IntErrorKind::PosOverflow => {
            let (rate, quota) = (bounds::RATE, bounds::QUOTA);
            format!("{what} is {text}: give {rate} at most, {quota} of a day or month")
        }
        _ => format!("{what} is '{text}': give a whole number"),
    })
}

impl LimitArg {
    /// As it would be written, without its name.
    pub(crate) fn admits(&self) -> String {
        let written = self.written();
        written.split_once('=').map_or(String::new(), |(_, admits)| admits.to_owned())
    }

    /// As it would be written.
    pub(crate) fn written(&self) -> String {
        let Self { name, amount, period, burst, counts, fallback, shadow, cost, charge } = self;
        let period = if period.is_empty() { "minute" } else { period };
        let mut text = format!("{name}={amount}/{period}");
        if let Some(burst) = burst {
            text += &format!(",burst={burst}");
        }
        if let Some(cost) = cost {
            text += &format!(",cost={cost}");
        }
        for (field, value) in [("counts", counts), ("fallback", fallback), ("charge", charge)] {
            if !value.is_empty() {
                text += &format!(",{field}={value}");
            }
        }
        if *shadow {
            text += ",shadow";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written_alike() {
        for text in [
            "daily=100000/day",
            "calls=50/second,burst=100",
            "total=5/minute,cost=2,counts=all,fallback=open,shadow",
            "traffic=1000000/day,charge=response_bytes",
        ] {
            assert_eq!(text.parse::<LimitArg>().map(|limit| limit.written()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let form =
            "write NAME=AMOUNT/PERIOD, such as daily=100000/day or calls=50/second,burst=100";
        for (text, fault) in [
            ("daily", form.to_owned()),
            ("daily=5", form.to_owned()),
            ("daily=many/day", format!("amount is 'many': give a whole number: {form}")),
            (
                "daily=18446744073709551615/day",
                format!("amount is 18446744073709551615: give 1000000000 at most, 1000000000000 of a day or month: {form}"),
            ),
            ("a=1/day,burst=x", "burst is 'x': give a whole number".into()),
            ("a=1/day,burst=2,burst=3", "burst is given twice: give it once".into()),
            (
                "a=1/day,brust=2",
                "'brust=2' is unknown: give burst=N, counts=all, fallback=WAY, cost=N, charge=WHAT or \
                 shadow"
                    .into(),
            ),
        ] {
            assert_eq!(text.parse::<LimitArg>(), Err(fault), "{text}");
        }
    }
}
