//! Values of options that are more than a text: targets, times, spans.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use fastgate::{model::numbers_of, time};
use jiff::{Span, SpanRelativeTo};
use prost_types::Timestamp;

/// Seconds above zero.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && Duration::try_from_secs_f64(seconds).is_ok() => Ok(seconds),
        _ => Err("give seconds above 0, such as 30 or 0.5".into()),
    }
}

/// Requests a minute. Which of them make a rate is the control plane's to say, of all it can be told.
pub(super) fn rate(text: &str) -> Result<i64, String> {
    whole(text, "rate_limit")
}

/// The same for keys without a limit of their own.
pub(super) fn default_rate(text: &str) -> Result<i64, String> {
    whole(text, "default_rate_limit")
}

fn whole(text: &str, field: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("give {}", numbers_of(field)))
}

/// `URL[,weight=N][,timeout=SECONDS]`. What makes a URL valid is the control plane's to say.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TargetArg {
    /// The URL.
    pub(crate) url: String,
    /// Its share among the targets.
    pub(crate) weight: Option<i32>,
    /// Seconds one attempt may take.
    pub(crate) timeout: Option<f64>,
}

impl FromStr for TargetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let url = parts.next().unwrap_or_default().to_owned();
        let mut target = Self { url, weight: None, timeout: None };
        for part in parts {
            match part.split_once('=') {
                Some(("weight", weight)) => {
                    let weight = weight.parse().map_err(|_| "weight must be a whole number")?;
                    target.weight = Some(weight);
                }
                Some(("timeout", timeout)) => {
                    let timeout = timeout.parse().map_err(|_| "timeout must be a number")?;
                    target.timeout = Some(timeout);
                }
                _ => {
                    return Err(format!(
                        "'{part}' is unknown: write URL, URL,weight=70 or URL,weight=70,timeout=30"
                    ));
                }
            }
        }
        Ok(target)
    }
}

/// `KEY=VALUE`. What either may hold is the control plane's to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LabelArg {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for LabelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as team=payments")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Where a span leads beyond all times: the control plane refuses them.
const FAR_PAST: Timestamp = Timestamp { seconds: i64::MIN, nanos: 0 };
const FAR_FUTURE: Timestamp = Timestamp { seconds: i64::MAX, nanos: 0 };

/// A point in time, as written or as far from now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Moment {
    /// RFC 3339.
    At(Timestamp),
    /// A span such as `15m`; days count 24 hours.
    Span(Duration),
}

impl Moment {
    /// The time so long before `now`, unless it was written out.
    pub(crate) fn ago(self, now: SystemTime) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Span(span) => now.checked_sub(span).map_or(FAR_PAST, Into::into),
        }
    }

    /// The time so long after `now`, unless it was written out.
    pub(crate) fn ahead(self, now: SystemTime) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Span(span) => now.checked_add(span).map_or(FAR_FUTURE, Into::into),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(time) = time::parse(text) {
            return Ok(Self::At(time));
        }
        span(text).map(Self::Span).map_err(|()| {
            "give a time such as 2026-11-23T07:00:00Z or a span such as 15m, 24h, 90d".into()
        })
    }
}

/// How long a replaced secret lives on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Overlap(pub(crate) f64);

impl FromStr for Overlap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
        let overlap = bare.or_else(|| span(text).ok().map(|span| span.as_secs_f64()));
        overlap
            .filter(|seconds| *seconds >= 0.0)
            .map(Self)
            .ok_or_else(|| "give a span such as 24h or 30m, seconds, or 0 for none".into())
    }
}

fn span(text: &str) -> Result<Duration, ()> {
    let span: Span = text.parse().map_err(drop)?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(drop)?;
    Duration::try_from(span).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target = |url: &str, weight, timeout| TargetArg { url: url.into(), weight, timeout };
        for (text, expected) in [
            ("http://a:1", Some(target("http://a:1", None, None))),
            ("http://a:1,weight=70", Some(target("http://a:1", Some(70), None))),
            ("http://a:1,timeout=0.5,weight=0", Some(target("http://a:1", Some(0), Some(0.5)))),
            ("http://a:1,wieght=70", None),
            ("http://a:1,weight=x", None),
            ("http://a:1,", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn times_are_read() {
        let now = time::parse("2026-11-23T07:00:00Z").expect("a time");
        let now = SystemTime::try_from(now).expect("a time");
        for (text, ago) in [
            ("15m", Some("2026-11-23T06:45:00Z")),
            ("1d", Some("2026-11-22T07:00:00Z")),
            ("2020-01-01T00:00:00+01:00", Some("2019-12-31T23:00:00Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("2020-01-01T00:00:00+24:00", None),
            ("-1h", None),
            ("yesterday", None),
        ] {
            let read = text.parse::<Moment>().ok().map(|moment| moment.ago(now));
            let read = read.and_then(|time| time::Written::new(&time)).map(|time| time.to_string());
            assert_eq!(read.as_deref(), ago, "{text}");
        }
        assert_eq!("24h".parse(), Ok(Overlap(86_400.0)));
        assert_eq!("0".parse(), Ok(Overlap(0.0)));
        assert!("-5".parse::<Overlap>().is_err());
        assert!(seconds("0").is_err() && seconds("inf").is_err() && seconds("0.5").is_ok());
    }
}
