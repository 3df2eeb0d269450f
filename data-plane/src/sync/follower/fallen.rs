//! What becomes of config when something panicked.

use tokio::time::Instant;

use super::{CONFIG, Follower, Namespace};
use crate::{
    falls::Fall,
    sync::{Holding, Position},
};

impl Follower {
    /// Hears of all that was told until now.
    pub(super) fn hear_all(&mut self) {
        while let Ok(fall) = self.fallen.try_recv() {
            self.hears_of(fall);
        }
    }

    /// Notes that what is held took the place of this.
    pub(super) fn put_on_trial(&mut self, before: Option<Holding>) {
        let Some(held) = self.replica.held(CONFIG) else { return };
        // Config of another epoch is not what the control plane knows.
        let before = before.filter(|before| before.epoch == held.epoch);
        self.trials.begin(held.revision, before, Instant::now());
    }

    /// Takes config back that makes requests panic. Whether the control plane is to hear of that.
    pub(super) fn hears_of(&mut self, fall: Fall) -> bool {
        let now = Instant::now();
        let revision = match fall {
            Fall::Connection(revision) => revision,
            Fall::Worker => {
                // The process ends, though it takes its leave: to the next start it died.
                self.guard.is_dying();
                return false;
            }
        };
        tracing::error!(revision, "a request made its worker panic");
        let Some(before) = self.trials.panicked(revision, now) else { return false };
        let Some(from) = self.replica.held(CONFIG).map(|held| held.revision) else { return false };
        let to = before.revision;
        // Of what is taken back step by step, the newest is what the control plane would send again.
        let condemned = self.guard.condemned().filter(|bad| bad.epoch == before.epoch);
        let bad = condemned.map_or(from, |condemned| condemned.revision.max(from));
        let why = format!(
            "two requests made the node panic soon after it took revision {bad} into use: it is \
             put aside for now"
        );
        if !self.replica.take_back(before.clone(), bad, why) {
            return false;
        }
        self.put_in_force();
        self.guard.condemn(Position { epoch: before.epoch.clone(), revision: bad }, now);
        self.health.turn(to);
        self.progress.set_held(Namespace::Config, to);
        self.progress.count_nack(CONFIG);
        self.progress.set_refused_config(self.refused_config());
        tracing::error!(from, to, "took the config back: requests panicked soon after it came");
        if let Some(disk) = &self.disk {
            disk.saver(CONFIG).save(before);
        }
        true
    }
}
