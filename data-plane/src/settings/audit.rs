//! The settings of the audit trail.

use std::num::NonZeroUsize;

use fastgate::settings::Mistakes;

use super::{
    given::Given,
    parse::{parse_bytes, parse_count},
};
use crate::audit::WhenFull;

/// How audit events are kept until they are stored.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The most bytes the spool may take.
    pub spool_limit: u64,
    /// What becomes of requests that come while the spool is full.
    pub spool_full: WhenFull,
    /// Events kept per worker until they are taken over; further ones are dropped and counted.
    pub queue: NonZeroUsize,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            spool_limit: 1 << 30,
            spool_full: WhenFull::Block,
            queue: NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Takes those of the audit trail out of what is given.
pub(super) fn check(found: &mut Mistakes, given: &mut Given) -> AuditSettings {
    let mut settings = AuditSettings::default();
    let of_spool = [("--spool-limit", &given.spool_limit), ("--spool-full", &given.spool_full)];
    for (flag, _) in of_spool.iter().filter(|(_, given)| given.is_some()) {
        if given.state_dir.is_none() {
            found.add(format!("--state-dir is missing: give it, or leave {flag} out"));
        }
    }
    let AuditSettings { spool_limit, spool_full, queue } = &mut settings;
    found.put("--spool-limit", given.spool_limit.take(), parse_spool_limit, spool_limit);
    found.put("--spool-full", given.spool_full.take(), parse_when_full, spool_full);
    found.put("--audit-queue", given.audit_queue.take(), parse_count, queue);
    settings
}

fn parse_spool_limit(text: &str) -> Result<u64, String> {
    let mend = || format!("is '{text}': give at least 1MiB, such as 1GiB");
    parse_bytes(text).filter(|bytes| *bytes >= 1 << 20).ok_or_else(mend)
}

fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "block" => Ok(WhenFull::Block),
        "drop" => Ok(WhenFull::Drop),
        _ => Err(format!("is '{text}': give block or drop")),
    }
}
