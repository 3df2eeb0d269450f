//! What becomes of batches the control plane will never store: they give way, so that what is
//! behind them is stored, and their events count as dropped.
//!
//! A gap takes the place of such a batch and is stored in its stead, under its boot. Without an
//! environment that of this boot waits in memory until there is one again; of those of earlier boots
//! only the log and the counts tell. Whatever may pass is waited for as long as it takes.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use fastgate::audit::REFUSED_BATCH;
use prost::Message as _;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    alarm::is_due,
    batch::{Gap, Reason, Sealed},
    encode::{Opening, last_words},
    ledger::Totals,
    outlet::Outlet,
};

/// How long events wait for an environment that does not exist, or is another than that of the node's
/// certificate. It may have been deleted for good, but also by mistake, or the database is about to be restored: enough for somebody to see to it.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// The control plane's answer to one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    first_seq: u64,
    /// Nothing is wrong with the batch but its environment: it does not exist, or the node may not speak
    /// for it.
    is_homeless: bool,
    pub(super) why: String,
}

impl Refusal {
    /// `None`: the status says nothing of a batch, or what may pass.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let is_homeless = match status.code() {
            Code::NotFound | Code::PermissionDenied => true,
            Code::InvalidArgument => false,
            _ => return None,
        };
        let first_seq = status.metadata().get(REFUSED_BATCH)?.to_str().ok()?.parse().ok()?;
        Some(Self { first_seq, is_homeless, why: status.message().to_owned() })
    }
}

/// Gives up batches that were refused.
pub(super) struct Refusals {
    boot: Uuid,
    totals: Arc<Totals>,
    patience: Duration,
    /// The boot whose environment does not exist, and since when.
    homeless: Option<(Uuid, Instant)>,
    told_wait: Option<Instant>,
    told_loss: Option<Instant>,
}

impl Refusals {
    /// Of the node that runs since this boot.
    pub(super) fn new(boot: Uuid, totals: Arc<Totals>, patience: Duration) -> Self {
        Self { boot, totals, patience, homeless: None, told_wait: None, told_loss: None }
    }

    /// Whether a batch is one of the node as it runs, and not left by an earlier start.
    pub(super) fn is_of_this_boot(&self, batch: &Sealed) -> bool {
        batch.boot == self.boot
    }

    /// Notes that a batch was stored: its environment exists.
    pub(super) fn end_wait(&mut self) {
        self.homeless = None;
    }

    /// Has a batch give way, if that is to be; whether it did.
    pub(super) fn give_up(&mut self, refusal: &Refusal, outlet: &Outlet, now: Instant) -> bool {
        let Some(batch) = outlet.window.oldest_sent(refusal.first_seq) else { return false };
        if refusal.is_homeless && !self.has_waited(&batch, refusal, now) {
            return false;
        }
        match lost_with(&batch) {
            // One that holds nothing but gaps is refused for what it says of them.
            Some((whose, gaps)) if !refusal.is_homeless && batch.events > 0 => {
                outlet.window.replace_oldest(tell(&batch, &whose, &gaps));
            }
            lost => {
                drop(outlet.window.acknowledge(batch.first_seq));
                if let Some((_, gaps)) = lost
                    && refusal.is_homeless
                    && self.is_of_this_boot(&batch)
                {
                    outlet.window.lose(gaps);
                }
            }
        }
        let (events, first_seq) = (batch.events, batch.first_seq);
        if self.is_of_this_boot(&batch) {
            self.totals.refused.fetch_add(events, Relaxed);
        } else {
            outlet.left.fetch_sub(events, Relaxed);
            self.totals.lost_by(Reason::Refused).fetch_add(events, Relaxed);
        }
        if is_due(&mut self.told_loss, now) {
            let (boot, why) = (batch.boot, &refusal.why);
            tracing::error!(%boot, first_seq, events, "audit events are dropped, as the control plane will never store them: {why}");
        }
        true
    }

    fn has_waited(&mut self, batch: &Sealed, refusal: &Refusal, now: Instant) -> bool {
        let since = match self.homeless {
            Some((boot, since)) if boot == batch.boot => since,
            _ => {
                self.homeless = Some((batch.boot, now));
                now
            }
        };
        let left = self.patience.saturating_sub(now.duration_since(since));
        if !left.is_zero() && is_due(&mut self.told_wait, now) {
            let (boot, why, seconds) = (batch.boot, &refusal.why, left.as_secs());
            tracing::error!(%boot, "audit events can't be stored and are dropped in {seconds} seconds: {why}");
        }
        left.is_zero()
    }
}

/// What is lost with a batch: its own events, and what it told of others.
fn lost_with(batch: &Sealed) -> Option<(Opening, Vec<Gap>)> {
    let opening = Opening::decode(batch.encoded.clone()).ok()?;
    let told = opening.gaps.iter().filter_map(|gap| {
        let reason = Reason::named(&gap.reason)?;
        Some(Gap { first_seq: gap.first_seq, events: gap.events, reason })
    });
    let own = Gap::of((batch.first_seq, batch.end()), Reason::Refused);
    let gaps = told.chain([own]).filter(|gap| gap.events > 0).collect();
    Some((opening, gaps))
}

/// A batch that tells of these in the place of another one.
fn tell(batch: &Sealed, whose: &Opening, gaps: &[Gap]) -> Sealed {
    let names = (whose.node_id.as_str(), batch.boot, whose.environment.as_str());
    let encoded = last_words(names, batch.end(), gaps);
    Sealed { first_seq: batch.end(), events: 0, encoded, ..batch.clone() }
}
