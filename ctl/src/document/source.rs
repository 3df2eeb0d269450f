//! Where documents come from: files, directories, the standard input. All bounded.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::error::{Error, Fault};

/// The largest document taken, in bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// The most files taken from one directory.
const MAX_FILES: usize = 1000;

/// The text of one document.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its file, as it was given.
    pub(crate) name: String,
    /// All of it.
    pub(crate) text: String,
}

impl Source {
    pub(super) fn fault(&self, line: Option<u64>, message: impl Into<String>) -> Fault {
        Fault { file: self.name.clone(), line, message: message.into() }
    }
}

/// Reads documents in the order given; those of a directory by name.
pub(crate) fn read(files: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        if path.as_os_str() == "-" {
            let fault =
                |source| Error::File { action: "read", path: "the standard input".into(), source };
            sources
                .push(Source { name: "<stdin>".into(), text: read_bounded(stdin).map_err(fault)? });
        } else if path.is_dir() {
            for path in list(path)? {
                sources.push(read_file(&path)?);
            }
        } else {
            sources.push(read_file(path)?);
        }
    }
    Ok(sources)
}

/// How documents are read: bounded by their size, with room for many small values.
pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 16_000_000,
            max_nodes: 8_000_000,
            max_recorded_anchor_events: 100_000,
        },
        // The control plane says of a number what is wrong with it, with its field.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn read_file(path: &Path) -> Result<Source, Error> {
    let text = File::open(path).and_then(|mut file| read_bounded(&mut file));
    let fault = |source| Error::File { action: "read", path: path.into(), source };
    Ok(Source { name: path.display().to_string(), text: text.map_err(fault)? })
}

fn read_bounded(from: &mut dyn Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        let limit = MAX_DOCUMENT / (1024 * 1024);
        return Err(io::Error::other(format!("it is larger than {limit} MiB: split it")));
    }
    String::from_utf8(bytes).map_err(|fault| {
        let good = fault.utf8_error().valid_up_to();
        let line = 1 + fault.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("line {line} is not UTF-8: save it as UTF-8"))
    })
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fault = |source| Error::File { action: "read", path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(fault(io::Error::other(format!(
                "it holds more than {MAX_FILES} documents"
            ))));
        }
    }
    if paths.is_empty() {
        return Err(fault(io::Error::other("it holds no .yaml, .yml or .json file")));
    }
    paths.sort();
    Ok(paths)
}
