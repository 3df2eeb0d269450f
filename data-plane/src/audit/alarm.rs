//! Says in the log how full the spool is, when that changes, and why it can't be written.

use std::{
    io,
    time::{Duration, Instant},
};

/// How often the log repeats that something is wrong.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// What the log was told last.
pub(super) struct Alarm {
    /// What becomes of requests while the spool is full.
    when_full: &'static str,
    level: Level,
    told_full: Option<Instant>,
    told_fault: Option<Instant>,
}

/// How full it is, in steps that are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Fine,
    /// Above 70 %.
    High,
    /// Above 90 %.
    VeryHigh,
}

impl Level {
    fn of(bytes: u64, most: u64) -> Self {
        match u128::from(bytes) * 100 / u128::from(most.max(1)) {
            0..70 => Self::Fine,
            70..90 => Self::High,
            _ => Self::VeryHigh,
        }
    }
}

impl Alarm {
    pub(super) fn new(when_full: &'static str) -> Self {
        Self { when_full, level: Level::Fine, told_full: None, told_fault: None }
    }

    /// Tells what has changed. Of `most` bytes on it is full.
    pub(super) fn look(&mut self, bytes: u64, most: u64, is_full: bool, now: Instant) {
        let level = Level::of(bytes, most);
        match level {
            Level::Fine if self.level > level => {
                tracing::info!(bytes, most, "the audit spool has room again")
            }
            Level::High if self.level < level => {
                tracing::warn!(bytes, most, "the audit spool is above 70 %")
            }
            Level::VeryHigh if self.level < level => {
                tracing::warn!(bytes, most, "the audit spool is above 90 %")
            }
            _ => {}
        }
        self.level = level;
        if is_full && is_due(&mut self.told_full, now) {
            let then = self.when_full;
            tracing::error!(bytes, most, "the audit spool takes no events: {then}");
        }
        if !is_full && self.told_full.take().is_some() {
            tracing::info!(bytes, most, "the audit spool takes events again");
        }
    }

    /// Tells why the spool can't be written, now and then.
    pub(super) fn tell(&mut self, fault: &io::Error, now: Instant) {
        if is_due(&mut self.told_fault, now) {
            tracing::error!(%fault, "the audit spool can't be written");
        }
    }
}

/// Whether it is time to tell something again; if so, it counts as told.
pub(super) fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = told.is_none_or(|at| now.duration_since(at) >= REMIND_EVERY);
    if is_due {
        *told = Some(now);
    }
    is_due
}
