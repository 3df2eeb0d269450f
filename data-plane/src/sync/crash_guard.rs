//! Keeps a revision that kills the process from killing it for ever.
//!
//! Before a state is taken into use its revision is written down, and struck out once the process
//! has lived with it for a while. A process that starts and finds it still there knows that the
//! one before died of it, or by chance just then; after the second death it is not tried again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Namespace;

/// A process that lives this long with a state will not die of taking it into use.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(3);

/// Deaths that are more than chance.
const CONDEMNED_AT: u32 = 2;

/// The note about one namespace.
pub(super) struct CrashGuard {
    /// `None`: there is no state directory, nothing outlives the process.
    path: Option<PathBuf>,
    note: Note,
    since: Option<Instant>,
}

/// What outlives a death: `attempt REVISION DEATHS` and `condemned REVISION`, a line each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Note {
    attempt: Option<Attempt>,
    condemned: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Attempt {
    revision: u64,
    deaths: u32,
}

impl CrashGuard {
    /// Reads what the process before left, and counts its death.
    pub(super) fn open(dir: Option<&Path>, ns: Namespace) -> Self {
        let path = dir.map(|dir| dir.join(format!("{}.attempt", ns.name())));
        let left = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let mut note = left.map(|text| Note::parse(&text)).unwrap_or_default();
        if let Some(attempt) = &mut note.attempt {
            attempt.deaths = attempt.deaths.saturating_add(1);
            if attempt.deaths >= CONDEMNED_AT {
                note.condemned = Some(attempt.revision);
            }
        }
        let guard = Self { path, note, since: None };
        guard.write();
        guard
    }

    /// The revision that should not be tried again.
    pub(super) fn condemned(&self) -> Option<u64> {
        self.note.condemned
    }

    /// Notes a revision that is about to be taken into use. Not synced to the disk: it is to
    /// outlive the process, not the machine, and this stands in the way of every change.
    pub(super) fn attempt(&mut self, revision: u64, now: Instant) {
        let before = self.note.attempt.filter(|attempt| attempt.revision == revision);
        self.note.attempt = Some(before.unwrap_or(Attempt { revision, deaths: 0 }));
        self.since = Some(now);
        self.write();
    }

    /// Strikes the attempt out if the process has lived with it for long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.duration_since(since) < PROVEN_AFTER) {
            return;
        }
        // A later revision that holds has mended what was wrong with the condemned one.
        let proven = self.note.attempt.map(|attempt| attempt.revision);
        self.note.condemned = self.note.condemned.filter(|bad| proven < Some(*bad));
        self.strike_out();
    }

    /// Strikes the attempt out: what comes now is an orderly end, not a death.
    pub(super) fn strike_out(&mut self) {
        self.since = None;
        self.note.attempt = None;
        self.write();
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

impl Note {
    fn parse(text: &str) -> Self {
        let mut note = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let word = words.next();
            let revision = words.next().and_then(|word| word.parse().ok());
            let deaths = words.next().and_then(|word| word.parse().ok());
            match (word, revision, deaths) {
                (Some("attempt"), Some(revision), Some(deaths)) => {
                    note.attempt = Some(Attempt { revision, deaths });
                }
                (Some("condemned"), Some(revision), None) => note.condemned = Some(revision),
                _ => {}
            }
        }
        note
    }

    fn to_text(self) -> String {
        let attempt = self.attempt.map(|a| format!("attempt {} {}\n", a.revision, a.deaths));
        let condemned = self.condemned.map(|revision| format!("condemned {revision}\n"));
        attempt.unwrap_or_default() + &condemned.unwrap_or_default()
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

    const KEYS: Namespace = Namespace::Keys;

    #[test]
    fn two_deaths_with_the_same_revision_condemn_it() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        let mut guard = CrashGuard::open(dir, KEYS);
        assert_eq!(guard.condemned(), None);
        guard.attempt(5, now);
        // The process dies; the next one tries the same revision.
        let mut guard = CrashGuard::open(dir, KEYS);
        assert_eq!(guard.condemned(), None);
        guard.attempt(5, now);
        let guard = CrashGuard::open(dir, KEYS);
        assert_eq!(guard.condemned(), Some(5));
        assert_eq!(CrashGuard::open(dir, Namespace::Config).condemned(), None);
    }

    #[test]
    fn a_condemned_revision_stays_so_until_a_later_one_holds() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        for _ in 0..2 {
            CrashGuard::open(dir, KEYS).attempt(5, now);
        }
        let mut guard = CrashGuard::open(dir, KEYS);
        assert_eq!(guard.condemned(), Some(5));
        guard.attempt(4, now);
        guard.settle(now + PROVEN_AFTER);
        let mut guard = CrashGuard::open(dir, KEYS);
        assert_eq!(guard.condemned(), Some(5), "4 is older");
        guard.attempt(6, now);
        guard.settle(now + PROVEN_AFTER);
        assert_eq!(CrashGuard::open(dir, KEYS).condemned(), None);
    }

    #[test]
    fn another_revision_or_a_while_of_life_clears_it() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = Some(temp.path());
        let now = Instant::now();
        CrashGuard::open(dir, KEYS).attempt(5, now);
        CrashGuard::open(dir, KEYS).attempt(6, now);
        assert_eq!(CrashGuard::open(dir, KEYS).condemned(), None, "6 killed only once");

        let mut guard = CrashGuard::open(dir, KEYS);
        guard.attempt(7, now);
        guard.settle(now + PROVEN_AFTER / 2);
        let mut guard = CrashGuard::open(dir, KEYS);
        guard.attempt(7, now);
        guard.settle(now + PROVEN_AFTER);
        assert_eq!(CrashGuard::open(dir, KEYS).condemned(), None);
    }

    #[test]
    fn a_note_that_makes_no_sense_is_no_note() {
        let temp = tempfile::tempdir().expect("a directory");
        for text in
            ["", "x", "attempt", "attempt x 2", "attempt 5", "attempt -5 2", "condemned", "\0"]
        {
            fs::write(temp.path().join("keys.attempt"), text).expect("writes");
            assert_eq!(CrashGuard::open(Some(temp.path()), KEYS).condemned(), None, "{text:?}");
        }
    }
}
