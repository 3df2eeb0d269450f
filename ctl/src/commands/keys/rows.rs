//! The keys of a file, a JSON object a line.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{self, File},
    hash::Hash,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use fastgate::{admin::v1::Key, model::Violations, secret::SecretHash};
use fastgate_control_plane::{check_imported_key, read_message};
use prost_reflect::MessageDescriptor;

use crate::{
    error::{Error, Fault, Faults},
    schema,
};

/// Faults that are told of one file.
const MOST_FAULTS: usize = 20;

/// A file of keys, which is read twice: to check it, and to send what it holds.
pub(super) struct Source {
    /// As it was given.
    pub(super) name: String,
    text: Text,
    kind: MessageDescriptor,
}

enum Text {
    File(PathBuf),
    /// What can be read once only.
    Read(Vec<u8>),
}

/// What a line holds: a key, or what keeps it from being one.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) key: Result<Key, Violations>,
}

/// One key and the line it stands on.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) key: Key,
}

/// What an earlier line has and no other may.
#[derive(Default)]
struct Seen {
    key_ids: HashMap<String, u64>,
    hashes: HashMap<SecretHash, u64>,
}

impl Source {
    /// Opens a file; `-` is the standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let kind = schema::describe("Key")?;
        let fault = |source| Error::File { action: "read", path: path.into(), source };
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text).map_err(fault)?;
            return Ok(Self { name: "<stdin>".into(), text: Text::Read(text), kind });
        }
        let is_file = fs::metadata(path).map_err(fault)?.is_file();
        let text = if is_file {
            Text::File(path.into())
        } else {
            Text::Read(fs::read(path).map_err(fault)?)
        };
        Ok(Self { name, text, kind })
    }

    /// Reads all of it; how many keys there are, and whether some of them need a secret.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, as far as the file tells.
    pub(super) fn check(&self) -> Result<(u64, bool), Error> {
        let mut seen = Seen::default();
        let mut found = Vec::new();
        let (mut count, mut needs_secrets, mut more) = (0, false, 0_usize);
        for line in self.lines()? {
            let Line { number, key } = line?;
            let faults = match key {
                Ok(key) => {
                    count += 1;
                    needs_secrets |= key.secrets.is_empty();
                    let mut faults = check_imported_key(&key).err().unwrap_or_default();
                    seen.check(&Row { line: number, key }, &mut faults);
                    faults
                }
                Err(faults) => faults,
            };
            for fault in faults {
                if found.len() < MOST_FAULTS {
                    found.push(self.fault(number, fault.to_string()));
                } else {
                    more += 1;
                }
            }
        }
        if more > 0 {
            let message = format!("has {more} more faults");
            found.push(Fault { file: self.name.clone(), line: None, message });
        }
        if found.is_empty() { Ok((count, needs_secrets)) } else { Err(Faults(found).into()) }
    }

    /// All lines that are not empty, in order.
    pub(super) fn lines(&self) -> Result<impl Iterator<Item = Result<Line, Error>>, Error> {
        let fault = |source| Error::File { action: "read", path: (&self.name).into(), source };
        let text: Box<dyn BufRead> = match &self.text {
            Text::File(path) => Box::new(BufReader::new(File::open(path).map_err(fault)?)),
            Text::Read(text) => Box::new(&text[..]),
        };
        Ok(text.lines().zip(1..).filter_map(move |(text, number)| match text {
            Err(source) => Some(Err(fault(source))),
            Ok(text) if text.trim().is_empty() => None,
            Ok(text) => Some(Ok(Line { number, key: self.parse(&text) })),
        }))
    }

    /// A fault of one line.
    pub(super) fn fault(&self, line: u64, message: impl Into<String>) -> Fault {
        Fault { file: self.name.clone(), line: Some(line), message: message.into() }
    }

    fn parse(&self, text: &str) -> Result<Key, Violations> {
        let whole = |fault: String| Violations::one("line", fault);
        let json = serde_json::from_str(text);
        let json = json.map_err(|fault| whole(format!("is no JSON: {fault}")))?;
        let mut faults = Violations::default();
        let open = read_message(&self.kind, &json, "", &mut faults);
        let open = faults.or(open)?;
        open.transcode_to().map_err(|fault| whole(format!("is no key: {fault}")))
    }
}

impl Seen {
    fn check(&mut self, Row { line, key }: &Row, faults: &mut Violations) {
        if !key.secrets.is_empty() && key.key_id.is_empty() {
            faults.add("key_id", "is missing: a key that brings its secrets needs one");
        }
        if let Some(earlier) = twin(&mut self.key_ids, key.key_id.clone(), *line)
            && !key.key_id.is_empty()
        {
            faults.add("key_id", format!("is that of line {earlier}: give another, or remove one"));
        }
        for (at, secret) in key.secrets.iter().enumerate() {
            let hash = SecretHash::from_hex(&secret.hash);
            if let Some(earlier) = hash.and_then(|hash| twin(&mut self.hashes, hash, *line)) {
                let twin = format!("is that of line {earlier}: one secret opens one key");
                faults.add(format!("secrets[{at}].hash"), twin);
            }
        }
    }
}

/// The earlier line that has the same.
fn twin<T: Hash + Eq>(seen: &mut HashMap<T, u64>, what: T, line: u64) -> Option<u64> {
    match seen.entry(what) {
        Entry::Occupied(earlier) => Some(*earlier.get()).filter(|earlier| *earlier != line),
        Entry::Vacant(place) => {
            place.insert(line);
            None
        }
    }
}
