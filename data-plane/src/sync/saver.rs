//! Writes what is held to the state directory soon after it changed, off the way of changes.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{
    Holding, Namespace, Progress,
    crash_guard::PROVEN_AFTER,
    state_dir::{Newest, StateDir},
};

/// Changes that come this close together are written once.
const COALESCE: Duration = Duration::from_millis(100);

/// How old the previous generation gets while newer ones are there.
const LONGEST_KEPT: Duration = Duration::from_secs(60);

/// Between two writes it rests so many times as long as the first one took: a million keys are written whole for
/// each that changes, and the disk has other things to do. One that is as short as this costs nothing.
const RESTS: u32 = 10;
const SHORT: Duration = Duration::from_millis(100);

/// The longest rest: what changed meanwhile is lost with the process, until a control plane sends it anew.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How long to wait after a failure, such as a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The writer of one namespace's state.
pub(super) struct Saver {
    latest: watch::Sender<Option<Holding>>,
    task: JoinHandle<()>,
}

impl Saver {
    /// Starts it. `newest_is_sound`: the newest generation on disk is the one in force, so that
    /// it may become the previous one.
    pub(super) fn start(
        dir: Arc<StateDir>,
        ns: Namespace,
        newest_is_sound: bool,
        progress: Progress,
    ) -> Self {
        let (latest, changed) = watch::channel(None);
        let now = Instant::now();
        let newest_since = newest_is_sound.then_some(now);
        let writer = Writer {
            dir,
            ns,
            newest_since,
            previous_since: now,
            rests_until: now,
            failing: false,
            progress,
        };
        Self { latest, task: tokio::spawn(writer.run(changed)) }
    }

    /// Has a state saved soon; only the last one said counts.
    pub(super) fn save(&self, state: Holding) {
        self.latest.send_replace(Some(state));
    }

    /// Waits until the last state is saved, or could not be.
    pub(super) async fn finish(self) {
        drop(self.latest);
        if let Err(fault) = self.task.await {
            tracing::error!("saving the state ended early: {fault}");
        }
    }
}

struct Writer {
    dir: Arc<StateDir>,
    ns: Namespace,
    /// When the newest generation was taken into use; `None`: it can't be relied on.
    newest_since: Option<Instant>,
    /// When the previous generation became so.
    previous_since: Instant,
    /// Nothing is written before, unless it is the last.
    rests_until: Instant,
    failing: bool,
    progress: Progress,
}

/// Waits until then; shorter, where nothing more will come.
async fn pause(until: Instant, changed: &mut watch::Receiver<Option<Holding>>) {
    let all_said = async { while changed.changed().await.is_ok() {} };
    tokio::select! {
        () = sleep_until(until) => {}
        () = all_said => {}
    }
}

/// How long to rest after a write that took so long.
fn rest(took: Duration) -> Duration {
    if took <= SHORT { Duration::ZERO } else { (took * RESTS).min(LONGEST_REST) }
}

impl Writer {
    async fn run(mut self, mut changed: watch::Receiver<Option<Holding>>) {
        // An error means that nothing is left to save and nothing more will come.
        while changed.changed().await.is_ok() {
            // A node that ends does not wait for further changes.
            pause((Instant::now() + COALESCE).max(self.rests_until), &mut changed).await;
            let latest = changed.borrow_and_update().clone();
            let Some(state) = latest else { continue };
            let done = self.write(state).await;
            self.report(&done);
            if done.is_err() && changed.has_changed().is_ok() {
                pause(Instant::now() + RETRY_AFTER, &mut changed).await;
                changed.mark_changed();
            }
        }
    }

    async fn write(&mut self, state: Holding) -> io::Result<()> {
        // Where changes come so fast that none is ever proven, the last one is good enough for
        // the next to fall back to: it did no harm, and the one before gets old.
        let is_old = self.previous_since.elapsed() >= LONGEST_KEPT;
        let keeps =
            self.newest_since.is_some_and(|since| is_old || since.elapsed() >= PROVEN_AFTER);
        let newest = if keeps { Newest::Keep } else { Newest::Replace };
        let (dir, ns) = (self.dir.clone(), self.ns);
        let began = Instant::now();
        let done = spawn_blocking(move || dir.save(ns, &state, newest)).await;
        done.map_err(io::Error::other)??;
        let now = Instant::now();
        self.rests_until = now + rest(now - began);
        self.newest_since = Some(now);
        if keeps {
            self.previous_since = now;
        }
        Ok(())
    }

    fn report(&mut self, done: &io::Result<()>) {
        match done {
            Err(fault) if !self.failing => {
                tracing::error!(
                    dir = %self.dir.path().display(), namespace = self.ns.name(),
                    "the state can't be saved, a restart would begin with an older one: {fault}"
                );
            }
            Ok(()) if self.failing => {
                tracing::info!(namespace = self.ns.name(), "the state is saved again");
            }
            _ => {}
        }
        self.failing = done.is_err();
        self.progress.set_unsaved(self.ns, self.failing);
    }
}

#[cfg(test)]
mod tests {
    use fastgate::model::Id;

    use super::{super::state_dir::Generation, *};

    #[tokio::test]
    async fn only_a_state_that_was_lived_with_becomes_the_previous_one() {
        let temp = tempfile::tempdir().expect("a directory");
        let environment = Id::parse("default").expect("an id");
        let dir = Arc::new(StateDir::open(temp.path(), environment).expect("opens"));
        let ns = Namespace::Keys;
        let mut writer = Writer {
            dir: dir.clone(),
            ns,
            newest_since: None,
            previous_since: Instant::now(),
            rests_until: Instant::now(),
            failing: false,
            progress: Progress::default(),
        };
        let previous = || dir.load(ns, Generation::Previous).map(|state| state.revision);
        for (revision, lived, kept) in
            [(1, false, None), (2, false, None), (3, true, Some(2)), (4, false, Some(2))]
        {
            if lived {
                writer.newest_since = writer.newest_since.and_then(|t| t.checked_sub(PROVEN_AFTER));
            }
            writer.write(Holding::empty("e1", revision)).await.expect("saves");
            assert_eq!(previous(), kept, "after {revision}");
        }
        writer.previous_since = writer.previous_since.checked_sub(LONGEST_KEPT).expect("a past");
        writer.write(Holding::empty("e1", 5)).await.expect("saves");
        assert_eq!(previous(), Some(4), "2 is too old to go back to");
    }

    #[tokio::test]
    async fn what_takes_long_to_write_is_written_seldom_and_at_the_end_at_once() {
        let ms = Duration::from_millis;
        let rests = [50, 100, 101, 1600, 6000, 9000].map(|took| rest(ms(took)).as_millis());
        assert_eq!(rests, [0, 0, 1010, 16_000, 60_000, 60_000]);

        let temp = tempfile::tempdir().expect("a directory");
        let environment = Id::parse("default").expect("an id");
        let dir = Arc::new(StateDir::open(temp.path(), environment).expect("opens"));
        let ns = Namespace::Keys;
        let now = Instant::now();
        let writer = Writer {
            dir: dir.clone(),
            ns,
            newest_since: None,
            previous_since: now,
            rests_until: now + LONGEST_REST,
            failing: false,
            progress: Progress::default(),
        };
        let (latest, changed) = watch::channel(None);
        let saver = Saver { latest, task: tokio::spawn(writer.run(changed)) };
        for revision in 1..=3 {
            saver.save(Holding::empty("e1", revision));
            tokio::time::sleep(COALESCE * 2).await;
        }
        let saved = || dir.load(ns, Generation::Newest).map(|state| state.revision);
        assert_eq!(saved(), None);
        saver.finish().await;
        assert_eq!(saved(), Some(3));
        assert!(now.elapsed() < LONGEST_REST / 2);
    }

    #[tokio::test]
    async fn the_last_state_is_saved_however_soon_the_node_ends() {
        let temp = tempfile::tempdir().expect("a directory");
        let environment = Id::parse("default").expect("an id");
        let dir = Arc::new(StateDir::open(temp.path(), environment).expect("opens"));
        let progress = Progress::default();
        let saver = Saver::start(dir.clone(), Namespace::Config, false, progress.clone());
        for revision in 1..=50 {
            saver.save(Holding::empty("e1", revision));
        }
        saver.finish().await;
        let saved = dir.load(Namespace::Config, Generation::Newest).expect("saved");
        assert_eq!((saved.revision, progress.has_unsaved()), (50, false));
    }

    #[tokio::test]
    async fn what_can_t_be_saved_is_told() {
        let temp = tempfile::tempdir().expect("a directory");
        let environment = Id::parse("default").expect("an id");
        let dir = Arc::new(StateDir::open(temp.path(), environment).expect("opens"));
        temp.close().expect("removed");
        let progress = Progress::default();
        let saver = Saver::start(dir, Namespace::Config, false, progress.clone());
        saver.save(Holding::empty("e1", 1));
        saver.finish().await;
        assert!(progress.has_unsaved());
    }
}
