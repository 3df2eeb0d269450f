//! Keeps config that kills the process from killing it for ever.
//!
//! Before config is taken into use its revision is written down, and struck out once the process
//! has lived with it for a while. A process that starts and finds it still there knows that the
//! one before died of it, or was killed just then; it remembers that while it begins with the config
//! before. After the second death the revision is put aside and the one before it serves; as it may
//! have been chance, it is tried again after a while that grows with every death.
//!
//! Keys have no such guard: a bad one is denied alone, and a revocation is never put aside.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::Position;

/// A process that lives this long with config will not die of taking it into use.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// Deaths that are more than chance.
const CONDEMNED_AT: u32 = 2;

/// How long a revision is put aside after the second death; four times as long after each further.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The longest it is put aside.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The note about config, and what follows from it.
pub(super) struct CrashGuard {
    /// `None`: there is no state directory, nothing outlives the process.
    path: Option<PathBuf>,
    note: Note,
    /// When the attempt began.
    since: Option<Instant>,
    /// Until when the condemned revision is put aside.
    until: Option<Instant>,
    /// The process is about to die: what is noted stays.
    is_dying: bool,
}

/// What outlives a death: a line for each, such as `attempt REVISION DEATHS EPOCH`.
#[derive(Default, PartialEq, Eq, Debug)]
struct Note {
    /// Taken into use, and not lived with yet.
    attempt: Option<Deaths>,
    /// What the last start died of: the one after it begins with other config, and must not forget.
    suspect: Option<Deaths>,
    /// Put aside.
    condemned: Option<Deaths>,
}

/// How many starts died of a revision.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Deaths {
    of: Position,
    count: u32,
}

impl CrashGuard {
    /// Reads what the process before left, and counts its death.
    pub(super) fn open(dir: Option<&Path>, now: Instant) -> Self {
        let path = dir.map(|dir| dir.join("config.attempt"));
        let left = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let mut note = left.map(|text| Note::parse(&text)).unwrap_or_default();
        if let Some(mut died_of) = note.attempt.take() {
            died_of.count = died_of.count.saturating_add(1);
            let is_condemned = died_of.count >= CONDEMNED_AT;
            let place = if is_condemned { &mut note.condemned } else { &mut note.suspect };
            *place = Some(died_of);
        }
        let until = note.condemned.as_ref().map(|deaths| now + wait(deaths.count));
        let guard = Self { path, note, since: None, until, is_dying: false };
        guard.write();
        guard
    }

    /// The revision that is put aside for now.
    pub(super) fn condemned(&self) -> Option<&Position> {
        self.until.and(self.note.condemned.as_ref()).map(|deaths| &deaths.of)
    }

    /// The revision that was put aside for long enough, told once.
    pub(super) fn pardon(&mut self, now: Instant) -> Option<Position> {
        self.until.take_if(|until| *until <= now)?;
        self.note.condemned.as_ref().map(|deaths| deaths.of.clone())
    }

    /// Notes a revision that is about to be taken into use. Not synced to the disk: it is to
    /// outlive the process, not the machine, and this stands in the way of every change.
    pub(super) fn attempt(&mut self, of: Position, now: Instant) {
        if self.is_dying {
            return;
        }
        let count = self.note.deaths_of(&of);
        self.note.attempt = Some(Deaths { of, count });
        self.since = Some(now);
        self.write();
    }

    /// Puts a revision aside that this process had to give up, without dying of it.
    pub(super) fn condemn(&mut self, of: Position, now: Instant) {
        let count = self.note.deaths_of(&of).saturating_add(1).max(CONDEMNED_AT);
        self.note.condemned = Some(Deaths { of, count });
        self.until = Some(now + wait(count));
        self.strike_out();
    }

    /// The process is about to die of what it holds: nothing is struck out any more.
    pub(super) fn is_dying(&mut self) {
        self.is_dying = true;
    }

    /// Strikes the attempt out if the process has lived with it for long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.is_dying {
            return;
        }
        if self.since.is_none_or(|since| now.duration_since(since) < PROVEN_AFTER) {
            return;
        }
        // This revision, or a later one, holds: nothing is wrong with those before any more.
        if let Some(Deaths { of: proven, .. }) = self.note.attempt.take() {
            let is_later =
                |bad: &Position| bad.epoch == proven.epoch && proven.revision < bad.revision;
            self.note.keep_if(is_later);
        }
        self.strike_out();
    }

    /// What was noted of revisions that are no more, for the control plane went back to this one: their
    /// numbers may come again with something else.
    pub(super) fn forget_after(&mut self, last: &Position) {
        if self.is_dying {
            return;
        }
        self.note.keep_if(|bad| bad.epoch == last.epoch && bad.revision <= last.revision);
        self.write();
    }

    /// Strikes the attempt out: what comes now is an orderly end, not a death.
    pub(super) fn strike_out(&mut self) {
        if self.is_dying {
            return;
        }
        self.since = None;
        self.note.attempt = None;
        self.write();
    }

    /// As if the condemned revision had been put aside for long enough.
    #[cfg(test)]
    pub(super) fn end_wait(&mut self) {
        self.until = self.until.map(|_| Instant::now());
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        let done = match self.note.to_text() {
            text if text.is_empty() => fs::remove_file(path),
            text => fs::write(path, text),
        };
        report(path, done);
    }
}

fn wait(deaths: u32) -> Duration {
    let factor = 4_u32.saturating_pow(deaths.saturating_sub(CONDEMNED_AT));
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

impl Note {
    /// How many starts died of a revision, as far as is known.
    fn deaths_of(&self, of: &Position) -> u32 {
        let noted = [&self.attempt, &self.suspect, &self.condemned].into_iter().flatten();
        let of_it = noted.filter(|deaths| deaths.of == *of);
        of_it.map(|deaths| deaths.count).max().unwrap_or(0)
    }

    /// Forgets what is held against other revisions.
    fn keep_if(&mut self, stays: impl Fn(&Position) -> bool) {
        self.suspect.take_if(|bad| !stays(&bad.of));
        self.condemned.take_if(|bad| !stays(&bad.of));
    }

    fn parse(text: &str) -> Self {
        let mut note = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            let word = words.next();
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
            let (Some(revision), Some(count)) = (number(), number()) else { continue };
            // A version before noted none: what it held against the number is forgotten.
            let epoch = words.next().unwrap_or_default().into();
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let deaths = Deaths { of: Position { epoch, revision }, count };
            match word {
                Some("attempt") => note.attempt = Some(deaths),
                Some("suspect") => note.suspect = Some(deaths),
                Some("condemned") => note.condemned = Some(deaths),
                _ => {}
            }
        }
        note
    }

    fn to_text(&self) -> String {
        let all = [
            ("attempt", &self.attempt),
            ("suspect", &self.suspect),
            ("condemned", &self.condemned),
        ];
        let noted = all.into_iter().filter_map(|(word, deaths)| Some((word, deaths.as_ref()?)));
        let line = |(word, Deaths { of, count }): (_, &Deaths)| {
            format!("{word} {} {count} {}\n", of.revision, of.epoch)
        };
        noted.map(line).collect()
    }
}

fn report(path: &Path, done: io::Result<()>) {
    match done {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), "the crash guard can't be written: {fault}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> Position {
        Position { epoch: "e1".into(), revision }
    }

    /// A start that takes these revisions and dies of the last one.
    fn die(dir: Option<&Path>, revision: u64, now: Instant) {
        CrashGuard::open(dir, now).attempt(at(revision), now);
    }

    #[test]
    fn two_deaths_of_the_same_revision_put_it_aside_for_a_while() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        die(dir, 5, now);
        die(dir, 5, now);
        let mut wait = FIRST_WAIT;
        for _ in 0..3 {
            let mut guard = CrashGuard::open(dir, now);
            assert_eq!(guard.condemned(), Some(&at(5)));
            guard.attempt(at(4), now);
            guard.settle(now + PROVEN_AFTER);
            assert_eq!(guard.pardon(now + wait / 2), None);
            assert_eq!(guard.pardon(now + wait), Some(at(5)));
            assert_eq!(guard.pardon(now + wait), None, "it is told once");
            assert_eq!(guard.condemned(), None);
            // It is tried again, and kills the process again.
            guard.attempt(at(5), now);
            wait *= 4;
        }
        assert_eq!(super::wait(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn starts_that_die_of_what_a_control_plane_sends_are_counted_across_the_config_on_disk() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        for is_condemned in [false, false, true] {
            let mut guard = CrashGuard::open(dir, now);
            assert_eq!(guard.condemned().is_some(), is_condemned);
            // What is on disk first, which holds; then what is sent, which kills.
            guard.attempt(at(4), now);
            guard.settle(now + PROVEN_AFTER);
            guard.attempt(at(5), now);
        }
    }

    #[test]
    fn what_requests_panicked_of_is_put_aside_and_what_kills_is_never_struck_out() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        let mut guard = CrashGuard::open(dir, now);
        guard.attempt(at(5), now);
        guard.condemn(at(5), now);
        assert_eq!(guard.condemned(), Some(&at(5)));
        assert_eq!(guard.pardon(now + FIRST_WAIT), Some(at(5)));
        guard.condemn(at(5), now);
        assert_eq!(
            (guard.pardon(now + FIRST_WAIT), guard.pardon(now + FIRST_WAIT * 4)),
            (None, Some(at(5)))
        );
        assert_eq!(CrashGuard::open(dir, now).condemned(), Some(&at(5)), "after a restart, too");

        guard.attempt(at(6), now);
        guard.is_dying();
        guard.settle(now + PROVEN_AFTER);
        guard.strike_out();
        die(dir, 6, now);
        assert_eq!(CrashGuard::open(dir, now).condemned(), Some(&at(6)));
    }

    #[test]
    fn a_condemned_revision_is_forgotten_once_it_or_a_later_one_holds() {
        let now = Instant::now();
        for (revision, forgotten) in [(4, false), (5, true), (6, true)] {
            let temp = tempfile::tempdir().expect("a directory");
            let dir = Some(temp.path());
            die(dir, 5, now);
            die(dir, 5, now);
            let mut guard = CrashGuard::open(dir, now);
            guard.attempt(at(revision), now);
            guard.settle(now + PROVEN_AFTER);
            let guard = CrashGuard::open(dir, now);
            assert_eq!(guard.condemned().is_none(), forgotten, "{revision}");
        }
    }

    #[test]
    fn a_number_that_comes_again_in_another_history_is_not_blamed() {
        let now = Instant::now();
        let other = |revision| Position { epoch: "e2".into(), revision };
        for back in [Some(at(4)), Some(other(5)), None] {
            let temp = tempfile::tempdir().expect("a directory");
            let dir = Some(temp.path());
            die(dir, 5, now);
            die(dir, 5, now);
            let mut guard = CrashGuard::open(dir, now);
            if let Some(back) = &back {
                guard.forget_after(back);
            }
            guard.attempt(other(5), now);
            let guard = CrashGuard::open(dir, now);
            let is_left = guard.condemned() == Some(&at(5));
            assert_eq!(is_left, back.is_none(), "{back:?}");
            assert_ne!(guard.condemned(), Some(&other(5)), "it killed once");
        }
    }

    #[test]
    fn another_revision_or_a_while_of_life_clears_it() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        die(dir, 5, now);
        die(dir, 6, now);
        assert_eq!(CrashGuard::open(dir, now).condemned(), None, "6 killed only once");

        let mut guard = CrashGuard::open(dir, now);
        guard.attempt(at(7), now);
        guard.settle(now + PROVEN_AFTER / 2);
        let mut guard = CrashGuard::open(dir, now);
        guard.attempt(at(7), now);
        guard.settle(now + PROVEN_AFTER);
        assert_eq!(CrashGuard::open(dir, now).condemned(), None);
    }

    #[test]
    fn a_note_that_makes_no_sense_is_no_note() {
        let temp = tempfile::tempdir().expect("a directory");
        for text in
            ["", "x", "attempt", "attempt x 2", "attempt 5", "attempt -5 2", "condemned", "\0"]
        {
            fs::write(temp.path().join("config.attempt"), text).expect("writes");
            let guard = CrashGuard::open(Some(temp.path()), Instant::now());
            assert_eq!(guard.condemned(), None, "{text:?}");
        }
    }
}
