//! Requests added up: what metrics are made of, and the use of keys.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use fastgate::model::Id;

use super::Histogram;

/// The length of time requests are added up over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Minute,
    Hour,
    Day,
}

impl Step {
    pub(crate) fn length(self) -> Duration {
        Duration::from_micros(self.us().unsigned_abs())
    }

    /// The beginning of the step a time lies in.
    pub(crate) fn begin(self, time: SystemTime) -> SystemTime {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let at_us = self.floor(i64::try_from(since).unwrap_or(i64::MAX));
        SystemTime::UNIX_EPOCH + Duration::from_micros(at_us.unsigned_abs())
    }

    /// The beginning of the step a time lies in, both in microseconds since 1970.
    pub(crate) fn floor(self, at_us: i64) -> i64 {
        at_us - at_us.rem_euclid(self.us())
    }

    /// The end of the step a time lies in.
    pub(crate) fn end(self, at_us: i64) -> i64 {
        self.floor(at_us) + self.us()
    }

    fn us(self) -> i64 {
        match self {
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }
}

/// What requests that are counted together have in common, `S` being the text of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Kind<S> {
    /// Where their step begins, in microseconds since 1970.
    pub(crate) at_us: i64,
    /// `None`: those of all keys, and without one, together. Empty: those without one.
    pub(crate) key_id: Option<S>,
    pub(crate) source_path: S,
    pub(crate) route_id: S,
    pub(crate) target_url: S,
    pub(crate) error: S,
    pub(crate) status_code: i16,
}

impl Kind<&str> {
    pub(crate) fn to_owned(&self) -> Kind<String> {
        Kind {
            at_us: self.at_us,
            key_id: self.key_id.map(str::to_owned),
            source_path: self.source_path.to_owned(),
            route_id: self.route_id.to_owned(),
            target_url: self.target_url.to_owned(),
            error: self.error.to_owned(),
            status_code: self.status_code,
        }
    }
}

impl Kind<String> {
    pub(crate) fn as_ref(&self) -> Kind<&str> {
        Kind {
            at_us: self.at_us,
            key_id: self.key_id.as_deref(),
            source_path: &self.source_path,
            route_id: &self.route_id,
            target_url: &self.target_url,
            error: &self.error,
            status_code: self.status_code,
        }
    }
}

/// What they come to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) rate_limited: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// When the last of them came, in microseconds since 1970.
    pub(crate) last_us: i64,
    /// Their response times.
    pub(crate) latency: Histogram,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.rate_limited = self.rate_limited.saturating_add(other.rate_limited);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.last_us = self.last_us.max(other.last_us);
        self.latency.add(&other.latency);
    }
}

/// Sums of many kinds.
pub(crate) type Rollup<S> = HashMap<Kind<S>, Sums>;

/// What was added up of the requests a query is about.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Metrics {
    pub(crate) totals: Total,
    /// Those of each step by where it begins, in microseconds since 1970.
    pub(crate) series: BTreeMap<i64, Total>,
    /// Those with most requests first, here and below.
    pub(crate) keys: Vec<(String, Total)>,
    pub(crate) source_paths: Vec<(String, Total)>,
    pub(crate) routes: Vec<(String, Total)>,
    pub(crate) targets: Vec<(String, Total)>,
    pub(crate) errors: Vec<(String, Total)>,
}

/// Sums over statuses.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Total {
    pub(crate) sums: Sums,
    /// Answered with a status from 400 to 499.
    pub(crate) client_errors: u64,
    /// From 500 on.
    pub(crate) server_errors: u64,
}

impl Total {
    pub(crate) fn add(&mut self, status_code: i16, sums: &Sums) {
        self.sums.add(sums);
        let errors = match status_code {
            400..=499 => &mut self.client_errors,
            500.. => &mut self.server_errors,
            _ => return,
        };
        *errors = errors.saturating_add(sums.requests);
    }
}

/// What of the rollups to read, and how much to tell of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MetricsQuery {
    pub(crate) environment: Id,
    /// The beginning of a step.
    pub(crate) from: SystemTime,
    /// The end of one.
    pub(crate) until: SystemTime,
    pub(crate) step: Step,
    pub(crate) key_id: Option<String>,
    pub(crate) source_path: Option<String>,
    pub(crate) route_id: Option<String>,
    pub(crate) target_url: Option<String>,
    pub(crate) error: Option<String>,
    /// First and last status, both included.
    pub(crate) status: Option<(u16, u16)>,
    /// Keys, source paths and so on to name at most.
    pub(crate) top: usize,
}
