//! What the log is told in a test.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::subscriber::{DefaultGuard, set_default};

/// The log of the thread that began it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Ends with the guard.
    pub(super) fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let format = tracing_subscriber::fmt().without_time().with_ansi(false);
        let subscriber = format.with_writer(move || writer.clone()).finish();
        (log, set_default(subscriber))
    }

    /// Its lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().expect("unharmed").clone()).expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unharmed").write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
