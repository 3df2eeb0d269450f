//! What requests come to under one revision of the config after the other: rollouts are judged by it.

use std::sync::Arc;

use fastgate::{admin::v1::NodeHealth, durations::Counts};

use crate::counters::{Cell, WorkerMetrics};

/// Counts of all workers, cut where the config changes. Requests under way at a change count as of after it.
pub(super) struct Health {
    workers: Vec<Arc<WorkerMetrics>>,
    /// The one in force; 0: none yet.
    revision: u64,
    /// The counts when it was taken.
    since: Sums,
    before: Option<NodeHealth>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    requests: u64,
    server_errors: u64,
    durations: Counts,
}

impl Health {
    pub(super) fn of(workers: Vec<Arc<WorkerMetrics>>) -> Self {
        Self { workers, revision: 0, since: Sums::default(), before: None }
    }

    /// Notes that this revision is in force from now on.
    pub(super) fn turn(&mut self, revision: u64) {
        self.before = self.now();
        self.since = self.sums();
        self.revision = revision;
    }

    /// Under the revision in force.
    pub(super) fn now(&self) -> Option<NodeHealth> {
        let (now, since) = (self.sums(), &self.since);
        let durations = now.durations.iter().zip(since.durations);
        (self.revision > 0).then(|| NodeHealth {
            config_revision: self.revision,
            requests: now.requests.wrapping_sub(since.requests),
            server_errors: now.server_errors.wrapping_sub(since.server_errors),
            durations: durations.map(|(now, since)| now.wrapping_sub(since)).collect(),
        })
    }

    /// Under the one before.
    pub(super) fn before(&self) -> Option<NodeHealth> {
        self.before.clone()
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for worker in &self.workers {
            sums.requests += worker.by_class.iter().map(Cell::get).sum::<u64>();
            let [.., server_errors] = &worker.by_class;
            sums.server_errors += server_errors.get();
            for (sum, count) in sums.durations.iter_mut().zip(&worker.buckets) {
                *sum += count.get();
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;

    #[test]
    fn requests_count_for_the_revision_they_ended_under() {
        let workers: Vec<Arc<WorkerMetrics>> = vec![Arc::default(), Arc::default()];
        let request = |worker: usize, status, ms| {
            let status = StatusCode::from_u16(status).expect("a status");
            workers[worker].request_ended(status, Duration::from_millis(ms));
        };
        let mut health = Health::of(workers.clone());
        request(0, 404, 1);
        assert_eq!((health.now(), health.before()), (None, None), "nothing is in force");

        health.turn(3);
        assert_eq!(health.before(), None);
        request(0, 200, 1);
        request(1, 502, 40);
        health.turn(4);
        request(1, 200, 400);
        let told = |health: Option<NodeHealth>| {
            let health = health.expect("told");
            let filled = health.durations.iter().enumerate().filter(|(_, count)| **count > 0);
            let filled: Vec<_> = filled.map(|(at, count)| (at, *count)).collect();
            (health.config_revision, health.requests, health.server_errors, filled)
        };
        assert_eq!(told(health.before()), (3, 2, 1, vec![(2, 1), (7, 1)]));
        assert_eq!(told(health.now()), (4, 1, 0, vec![(10, 1)]));
    }
}
