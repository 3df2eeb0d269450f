//! Audit events as JSON Lines, in files that are kept small and few, or on standard output.
//!
//! What is in a file survives the end of the process, however that came. A line that a kill or a
//! full disk cut off is taken away before the next one is written. A file that somebody moved away
//! or removed is begun anew, so that logrotate works without a signal.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use tokio::sync::oneshot;

use super::{Events, Fault, Progress, Sink};
use crate::private;

/// What is written at once, about.
const PIECE: usize = 256 << 10;

/// What every line begins with. A file whose torn end is something else is not ours.
const BEGIN: &[u8] = b"{\"timestamp\":";

/// Where lines go, and how much of them is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSettings {
    /// Where they go.
    pub target: FileTarget,
    /// Bytes after which a file is put aside.
    pub size: u64,
    /// How many of those are kept.
    pub keep: NonZeroUsize,
}

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileTarget {
    /// Standard output, which is never rotated.
    Stdout,
    /// A file; those put aside have a number behind its name, the latest `.1`.
    Path(PathBuf),
}

/// The sink: a thread that writes, as a disk or a pipe may make it wait.
pub(super) struct JsonLines {
    settings: FileSettings,
    /// Ends the thread when it goes. `None`: there is no thread yet.
    thread: Option<mpsc::Sender<Work>>,
}

struct Work {
    events: Arc<Events>,
    from: usize,
    /// How far it came, and what stopped it.
    done: oneshot::Sender<(usize, io::Result<()>)>,
}

impl JsonLines {
    pub(super) fn new(settings: FileSettings) -> Self {
        Self { settings, thread: None }
    }

    fn start(settings: FileSettings) -> io::Result<mpsc::Sender<Work>> {
        let (sender, works) = mpsc::channel::<Work>();
        thread::Builder::new().name("audit-file".into()).spawn(move || {
            let mut writer = Writer { settings, open: None };
            while let Ok(Work { events, from, done }) = works.recv() {
                let mut at = from;
                let written = writer.write(&events, &mut at);
                // The node may be about to end.
                drop(done.send((at, written)));
            }
        })?;
        Ok(sender)
    }
}

impl Sink for JsonLines {
    async fn send(&mut self, events: &Arc<Events>, progress: &mut Progress) -> Result<(), Fault> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => Self::start(self.settings.clone())
                .map_err(|fault| Fault::of("no thread to write files", fault))?,
        };
        let (done, written) = oneshot::channel();
        let work = Work { events: events.clone(), from: progress.done, done };
        let gone = || Fault::new("the thread that writes files has ended");
        thread.send(work).map_err(|_| gone())?;
        let (at, written) = written.await.map_err(|_| gone())?;
        self.thread = Some(thread);
        progress.done = at;
        written.map_err(|fault| match &self.settings.target {
            FileTarget::Stdout => Fault::of("can't write to standard output", fault),
            FileTarget::Path(path) => {
                Fault::of(&format!("can't write to {}", path.display()), fault)
            }
        })
    }
}

/// Writes lines, on its own thread.
pub(super) struct Writer {
    settings: FileSettings,
    open: Option<Open>,
}

/// The file under way.
struct Open {
    file: File,
    len: u64,
    /// Neither a pipe nor a device.
    is_regular: bool,
    /// Whether what was written last ends in the middle of a line.
    is_torn: bool,
}

impl Writer {
    #[cfg(test)]
    pub(super) fn new(settings: FileSettings) -> Self {
        Self { settings, open: None }
    }

    /// Writes the lines of events from `at` on, and moves it along.
    pub(super) fn write(&mut self, events: &Events, at: &mut usize) -> io::Result<()> {
        self.close_if_moved();
        let mut lines = String::new();
        while *at < events.len() {
            lines.clear();
            let mut next = *at;
            let room = self.room()?;
            for (place, event) in events.from(*at) {
                let before = lines.len();
                events.write_line(place, event, &mut lines);
                lines.push('\n');
                if lines.len() as u64 > room && before > 0 {
                    lines.truncate(before);
                    break;
                }
                next = place + 1;
                if lines.len() >= PIECE {
                    break;
                }
            }
            if lines.len() as u64 > room && self.rotate()? {
                continue;
            }
            self.append(lines.as_bytes())?;
            *at = next;
        }
        Ok(())
    }

    /// Bytes that the file takes until it is put aside.
    fn room(&mut self) -> io::Result<u64> {
        let size = self.settings.size;
        let open = self.opened()?;
        Ok(if open.is_regular { size.saturating_sub(open.len) } else { u64::MAX })
    }

    /// Puts the file aside; `false`: it is empty, and takes a line however long.
    fn rotate(&mut self) -> io::Result<bool> {
        let FileTarget::Path(path) = &self.settings.target else { return Ok(false) };
        if self.open.as_ref().is_none_or(|open| open.len == 0) {
            return Ok(false);
        }
        for number in (1..self.settings.keep.get()).rev() {
            match fs::rename(aside(path, number), aside(path, number + 1)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        fs::rename(path, aside(path, 1))?;
        self.open = None;
        Ok(true)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.opened()?;
        if open.is_torn {
            open.file.write_all(b"\n")?;
            open.is_torn = false;
        }
        match open.file.write_all(lines) {
            Ok(()) => {
                open.len += lines.len() as u64;
                Ok(())
            }
            Err(fault) => {
                // Half of it must not be in the way of what is written next.
                if open.is_regular {
                    if open.file.set_len(open.len).is_err() {
                        self.open = None;
                    }
                } else {
                    open.is_torn = true;
                }
                Err(fault)
            }
        }
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        if self.open.is_none() {
            self.open = Some(match &self.settings.target {
                FileTarget::Stdout => Open::stdout()?,
                FileTarget::Path(path) => Open::at(path)?,
            });
        }
        self.open.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn close_if_moved(&mut self) {
        let (FileTarget::Path(path), Some(open)) = (&self.settings.target, &self.open) else {
            return;
        };
        let id = |found: io::Result<fs::Metadata>| found.map(|it| (it.dev(), it.ino())).ok();
        if open.is_regular && id(fs::metadata(path)) != id(open.file.metadata()) {
            self.open = None;
        }
    }
}

impl Open {
    fn stdout() -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        // A file that the shell opened is left as it is, too.
        Ok(Self { file, len: 0, is_regular: false, is_torn: false })
    }

    fn at(path: &Path) -> io::Result<Self> {
        let mut file = private::file().read(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        let is_regular = metadata.is_file();
        let mut open =
            Self { len: metadata.len(), is_regular, is_torn: false, file: file.try_clone()? };
        if is_regular && open.len > 0 {
            let line = last_line(&mut file, open.len)?;
            open.is_torn = !line.is_empty();
            let is_ours = line.starts_with(BEGIN) || BEGIN.starts_with(&line);
            if open.is_torn && is_ours {
                open.len -= line.len() as u64;
                open.file.set_len(open.len)?;
                open.is_torn = false;
            }
        }
        Ok(open)
    }
}

/// What stands behind the last end of a line; no more than the longest line there may be.
fn last_line(file: &mut File, len: u64) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 1 << 20;
    file.seek(SeekFrom::Start(len.saturating_sub(LONGEST)))?;
    let mut end = Vec::new();
    file.take(LONGEST).read_to_end(&mut end)?;
    let begin = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(end.split_off(begin))
}

fn aside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
