//! The last good state on disk, so that a node starts and serves without the control plane.
//!
//! One file per namespace and a generation before it: `keys.state`, `keys.previous`,
//! `config.state`, `config.previous`. Each is written beside, synced and renamed into place, in
//! frames with a checksum each, so that neither writing nor reading needs the file in memory; one
//! that is damaged, foreign or of another format is left alone and said so, and the next older one
//! is used. Of secrets only hashes are ever sent to a node, so only those are on its disk.
//!
//! A change rewrites its namespace's file whole, some 160 bytes a key. A million keys that change
//! all the time would want an appended journal of deltas beside a snapshot.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fastgate::{
    digest::Digest,
    model::Id,
    node::v1::{EntitySet, Namespace as WireNamespace},
};
use prost::Message;
use thiserror::Error;

use super::{Holding, Namespace};
use crate::private;

/// A state directory, held by this process alone.
pub(crate) struct StateDir {
    dir: PathBuf,
    environment: Id,
    /// Locked for as long as it is open.
    _lock: File,
}

/// Why a state directory can't be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// It can't be made or opened.
    #[error("can't use the state directory {}: {source}", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error(
        "the state directory {} belongs to a running node: give each node its own --state-dir",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
}

/// Which of the two saved states of a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Generation {
    /// The last one saved.
    Newest,
    /// The one before, in force for long enough to be trusted.
    Previous,
}

/// What to do with the newest generation when another is saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Newest {
    /// It has proven good: keep it as the previous one.
    Keep,
    /// Replace it; the previous one stays.
    Replace,
}

/// Why a saved state is not used.
#[derive(Debug, Error)]
enum Unfit {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it was not written by this version of the program")]
    OtherFormat,
    #[error("it is damaged")]
    Damaged,
    #[error("it belongs to the environment '{0}'")]
    OtherEnvironment(String),
}

impl StateDir {
    /// Makes the directory where there is none, and takes hold of it.
    ///
    /// # Errors
    /// When it can't be used, or another process holds it.
    pub(crate) fn open(dir: &Path, environment: Id) -> Result<Self, StateDirError> {
        let unusable = |source| StateDirError::Unusable { dir: dir.to_owned(), source };
        private::make_dir(dir).map_err(unusable)?;
        let lock = match private::file().truncate(false).open(dir.join("lock")) {
            // What is in it is as good as ever, though nothing can be saved.
            Err(fault) if fault.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(dir),
            opened => opened,
        };
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), environment, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether a state was ever saved.
    pub(crate) fn has_state(&self) -> bool {
        let generations = [Generation::Newest, Generation::Previous];
        let mut files =
            Namespace::ALL.into_iter().flat_map(|ns| generations.map(|it| self.file(ns, it)));
        files.any(|file| file.exists())
    }

    /// A saved state, if there is one and it is sound; what is wrong with it is logged.
    pub(crate) fn load(&self, ns: Namespace, generation: Generation) -> Option<Holding> {
        let path = self.file(ns, generation);
        match File::open(&path).map_err(Unfit::from).and_then(|file| self.read(ns, file)) {
            Ok(holding) => Some(holding),
            Err(Unfit::Io(fault)) if fault.kind() == io::ErrorKind::NotFound => None,
            Err(unfit) => {
                tracing::warn!(file = %path.display(), "a saved state is not used: {unfit}");
                None
            }
        }
    }

    /// Saves a state; it survives a crash of the machine once this returns.
    pub(crate) fn save(&self, ns: Namespace, state: &Holding, newest: Newest) -> io::Result<()> {
        let draft = self.dir.join(format!("{}.draft", ns.name()));
        let mut file = private::file().truncate(true).open(&draft)?;
        self.write(ns, state, &mut file)?;
        file.sync_all()?;
        let target = self.file(ns, Generation::Newest);
        if newest == Newest::Keep {
            // Dying between the two renames leaves the previous generation, which is sound.
            match fs::rename(&target, self.file(ns, Generation::Previous)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        fs::rename(&draft, &target)?;
        File::open(&self.dir)?.sync_all()
    }

    /// How many nodes there were when that was known last.
    pub(crate) fn node_count(&self) -> Option<u32> {
        let text = fs::read_to_string(self.dir.join(NODE_COUNT)).ok()?;
        let (environment, count) = text.trim_end().split_once(' ')?;
        count.parse().ok().filter(|_| environment == self.environment.as_str())
    }

    /// Notes how many nodes there are. That it is lost with the machine, or not to be written, does no
    /// great harm: it is written again when it changes.
    pub(crate) fn keep_node_count(&self, count: u32) {
        let draft = self.dir.join(format!("{NODE_COUNT}.draft"));
        let write = || {
            let mut file = private::file().truncate(true).open(&draft)?;
            writeln!(file, "{} {count}", self.environment)?;
            fs::rename(&draft, self.dir.join(NODE_COUNT))
        };
        if let Err(fault) = write() {
            tracing::debug!(%fault, "can't note how many nodes there are");
        }
    }

    fn file(&self, ns: Namespace, generation: Generation) -> PathBuf {
        let extension = match generation {
            Generation::Newest => "state",
            Generation::Previous => "previous",
        };
        self.dir.join(format!("{}.{extension}", ns.name()))
    }

    fn write(&self, ns: Namespace, state: &Holding, file: &mut impl Write) -> io::Result<()> {
        file.write_all(FORMAT)?;
        let head = Head {
            environment: self.environment.to_string(),
            ns: ns.to_wire().into(),
            epoch: state.epoch.to_string(),
            revision: state.revision,
            digest: state.digest().to_bytes().to_vec(),
            entities: state.len() as u64,
        };
        write_frame(file, &head)?;
        let mut entities = state.entities().peekable();
        while entities.peek().is_some() {
            write_frame(file, &EntitySet { entities: entities.by_ref().take(FRAME).collect() })?;
        }
        Ok(())
    }

    fn read(&self, ns: Namespace, mut file: impl Read) -> Result<Holding, Unfit> {
        let mut format = Vec::with_capacity(FORMAT.len());
        file.by_ref().take(FORMAT.len() as u64).read_to_end(&mut format)?;
        match &format[..] {
            FORMAT => {}
            cut if FORMAT.starts_with(cut) => return Err(Unfit::Damaged),
            _ => return Err(Unfit::OtherFormat),
        }
        let head: Head = read_frame(&mut file)?.ok_or(Unfit::Damaged)?;
        if head.environment != self.environment.as_str() {
            return Err(Unfit::OtherEnvironment(head.environment));
        }
        let mut state = Holding::empty(&head.epoch, head.revision).foreseeing(head.entities);
        while let Some(set) = read_frame::<EntitySet>(&mut file)? {
            set.entities.iter().for_each(|entity| state.upsert(entity));
        }
        // Says too whether the last frames are missing.
        let whole = Digest::from_bytes(&head.digest) == Some(state.digest());
        if whole && head.ns() == ns.to_wire() { Ok(state) } else { Err(Unfit::Damaged) }
    }
}

/// The file with the environment and how many nodes it had.
const NODE_COUNT: &str = "node-count";

/// What every file of a state begins with; the last byte is the version of the format.
const FORMAT: &[u8] = b"FASTGATE\x02";

/// Entities in one frame.
const FRAME: usize = 1024;

/// Bytes that hold a frame of keys.
const USUAL_FRAME: usize = 256 << 10;

/// The first frame of a file. All others are entities, sets of them.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "1")]
    environment: String,
    #[prost(enumeration = "WireNamespace", tag = "2")]
    ns: i32,
    #[prost(string, tag = "3")]
    epoch: String,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(bytes = "vec", tag = "5")]
    digest: Vec<u8>,
    /// How many entities follow; 0 where an earlier version wrote it.
    #[prost(uint64, tag = "6")]
    entities: u64,
}

/// Writes the length of a message, its checksum, and itself.
fn write_frame(file: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let body = message.encode_to_vec();
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(8 + body.len());
    frame.extend(len.to_be_bytes());
    frame.extend(crc32fast::hash(&body).to_be_bytes());
    frame.extend(body);
    file.write_all(&frame)
}

/// The next frame; `None` at the end of the file.
fn read_frame<M: Message + Default>(file: &mut impl Read) -> Result<Option<M>, Unfit> {
    let mut start = Vec::with_capacity(8);
    file.by_ref().take(8).read_to_end(&mut start)?;
    let Some((len, rest)) = start.split_first_chunk() else {
        return if start.is_empty() { Ok(None) } else { Err(Unfit::Damaged) };
    };
    let len = u32::from_be_bytes(*len);
    // What a damaged length asks for is not set aside before it was read.
    let mut body = Vec::with_capacity((len as usize).min(USUAL_FRAME));
    file.by_ref().take(len.into()).read_to_end(&mut body)?;
    if body.len() as u64 != u64::from(len) || crc32fast::hash(&body).to_be_bytes() != *rest {
        return Err(Unfit::Damaged);
    }
    M::decode(Bytes::from(body)).map(Some).map_err(|_| Unfit::Damaged)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use fastgate::node::v1::{Entity, EntityKind};

    use super::*;

    fn environment(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn holding(revision: u64) -> Holding {
        let mut holding = Holding::empty("e1", revision);
        for id in ["a", "b"] {
            let value = format!("value of {id}").into_bytes().into();
            holding.upsert(&Entity { kind: EntityKind::Key.into(), id: id.into(), value });
        }
        holding
    }

    fn revision(dir: &StateDir, generation: Generation) -> Option<u64> {
        dir.load(Namespace::Keys, generation).map(|state| state.revision)
    }

    #[test]
    fn a_saved_state_reads_back() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(temp.path(), environment("default")).expect("opens");
        let saved = holding(7);
        dir.save(Namespace::Keys, &saved, Newest::Keep).expect("saves");
        let loaded = dir.load(Namespace::Keys, Generation::Newest).expect("is there");
        assert_eq!((loaded.revision, &*loaded.epoch, loaded.len()), (7, "e1", 2));
        assert_eq!(loaded.digest(), saved.digest());
        assert!(dir.load(Namespace::Config, Generation::Newest).is_none());
    }

    #[test]
    fn only_a_proven_state_becomes_the_previous_one() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(temp.path(), environment("default")).expect("opens");
        for (saved, newest, generations) in [
            (1, Newest::Keep, (Some(1), None)),
            (2, Newest::Keep, (Some(2), Some(1))),
            (3, Newest::Replace, (Some(3), Some(1))),
            (4, Newest::Keep, (Some(4), Some(3))),
        ] {
            dir.save(Namespace::Keys, &holding(saved), newest).expect("saves");
            let found = (revision(&dir, Generation::Newest), revision(&dir, Generation::Previous));
            assert_eq!(found, generations, "after {saved}");
        }
    }

    #[test]
    fn a_file_damaged_or_cut_at_any_byte_is_not_used() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(temp.path(), environment("default")).expect("opens");
        dir.save(Namespace::Keys, &holding(1), Newest::Keep).expect("saves");
        dir.save(Namespace::Keys, &holding(2), Newest::Keep).expect("saves");
        let path = temp.path().join("keys.state");
        let sound = fs::read(&path).expect("reads");
        for at in 0..sound.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = sound.clone();
                bad[at] ^= flip;
                fs::write(&path, &bad).expect("writes");
                assert_eq!(revision(&dir, Generation::Newest), None, "byte {at} ^ {flip:#x}");
            }
            fs::write(&path, &sound[..at]).expect("writes");
            assert_eq!(revision(&dir, Generation::Newest), None, "cut at {at}");
            assert_eq!(revision(&dir, Generation::Previous), Some(1));
        }
    }

    #[test]
    fn a_state_of_another_environment_or_namespace_is_not_used() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(temp.path(), environment("default")).expect("opens");
        dir.save(Namespace::Keys, &holding(1), Newest::Keep).expect("saves");
        fs::copy(temp.path().join("keys.state"), temp.path().join("config.state")).expect("copies");
        assert!(dir.load(Namespace::Config, Generation::Newest).is_none());
        drop(dir);
        let dir = StateDir::open(temp.path(), environment("staging")).expect("opens");
        assert_eq!(revision(&dir, Generation::Newest), None);
    }

    #[test]
    fn how_many_nodes_there_were_is_known_again_in_the_same_environment() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(temp.path(), environment("default")).expect("opens");
        assert_eq!(dir.node_count(), None);
        dir.keep_node_count(4);
        dir.keep_node_count(12);
        assert_eq!(dir.node_count(), Some(12));
        for text in ["", "default", "default x", "12", "default -1\n"] {
            fs::write(temp.path().join(NODE_COUNT), text).expect("writes");
            assert_eq!(dir.node_count(), None, "{text:?}");
        }
        dir.keep_node_count(3);
        drop(dir);
        let dir = StateDir::open(temp.path(), environment("staging")).expect("opens");
        assert_eq!(dir.node_count(), None);
    }

    #[test]
    fn one_process_holds_it_and_nobody_else_reads_it() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("state");
        let dir = StateDir::open(&path, environment("default")).expect("opens");
        let again = StateDir::open(&path, environment("default"));
        assert!(matches!(again, Err(StateDirError::InUse { .. })));
        dir.save(Namespace::Keys, &holding(1), Newest::Keep).expect("saves");
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("keys.state")), 0o600);
    }
}
