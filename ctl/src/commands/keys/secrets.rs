//! The secrets of an import: made here, and kept by its user before their keys are made.
//!
//! So an import that breaks off loses none: when it is run again with the same file, a line that was
//! given its secret before has that one again.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use fastgate::secret::{Kind, Secret, SecretHash};
use serde::{Deserialize, Serialize};

use super::rows::Row;
use crate::{error::Error, output::Output};

/// Where the secrets of an import go.
pub(super) struct Secrets {
    file: Option<Kept>,
    /// Lines not yet written.
    pending: String,
}

/// The file they are kept in.
struct Kept {
    path: PathBuf,
    file: File,
    /// What an earlier run has written, as far as it is not yet used.
    earlier: std::vec::IntoIter<Line>,
}

/// One secret as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Of the key in the file that is imported.
    line: u64,
    key_id: String,
    source_path: String,
    key_value: String,
}

impl Secrets {
    /// Those of a file, which is made where it is not there; without one they are printed.
    pub(super) fn open(path: Option<PathBuf>) -> Result<Self, Error> {
        let file = path.map(Kept::open).transpose()?;
        Ok(Self { file, pending: String::new() })
    }

    /// The id and the hash of the secret of a key that brought none.
    pub(super) fn give(&mut self, row: &Row) -> Result<(String, SecretHash), Error> {
        if let Some(kept) = &mut self.file
            && let Some(line) = kept.earlier.next()
        {
            return kept.again(&line, row);
        }
        let random = || Secret::generate(Kind::ApiKey).map_err(|fault| Error::Start(fault.into()));
        let secret = random()?;
        let key_id = if row.key.key_id.is_empty() {
            // 128 random bits; of a hash that nothing has.
            format!("key-{:.32}", random()?.hash().to_hex())
        } else {
            row.key.key_id.clone()
        };
        let line = Line {
            line: row.line,
            key_id,
            source_path: row.key.source_path.clone(),
            key_value: secret.expose().to_owned(),
        };
        let text = serde_json::to_string(&line).map_err(|fault| Error::Show(fault.to_string()))?;
        self.pending.push_str(&text);
        self.pending.push('\n');
        Ok((line.key_id, secret.hash()))
    }

    /// Sees to it that those given so far outlive this process. Only then may their keys be made.
    pub(super) fn keep(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match &mut self.file {
            None => output.text(&self.pending)?,
            Some(Kept { path, file, .. }) => {
                let written = file.write_all(self.pending.as_bytes());
                written.and_then(|()| file.sync_data()).map_err(|source| Error::File {
                    action: "write",
                    path: path.clone(),
                    source,
                })?;
            }
        }
        self.pending.clear();
        Ok(())
    }
}

impl Kept {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let fault = |action| {
            let path = path.clone();
            move |source| Error::File { action, path, source }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(fault("write"))?;
        let (mut earlier, mut whole) = (Vec::new(), 0);
        let mut reader = BufReader::new(&file);
        let mut text = String::new();
        while reader.read_line(&mut text).map_err(fault("read"))? > 0 && text.ends_with('\n') {
            let line = serde_json::from_str(&text).map_err(|_| Error::Setting {
                what: path.display().to_string(),
                fault: "holds something else than secrets of an import: give another file".into(),
            })?;
            earlier.push(line);
            whole += text.len() as u64;
            text.clear();
        }
        // A line that was being written when the earlier run ended belongs to no key.
        file.set_len(whole).map_err(fault("write"))?;
        file.seek(SeekFrom::End(0)).map_err(fault("write"))?;
        Ok(Self { path, file, earlier: earlier.into_iter() })
    }

    /// The secret of an earlier run, if it is that of this key.
    fn again(
        &self,
        line: &Line,
        Row { line: at, key }: &Row,
    ) -> Result<(String, SecretHash), Error> {
        let hash = SecretHash::of_sent(Kind::ApiKey, line.key_value.as_bytes());
        let is_same_key = key.key_id.is_empty() || key.key_id == line.key_id;
        match hash {
            Some(hash)
                if line.line == *at && line.source_path == key.source_path && is_same_key =>
            {
                Ok((line.key_id.clone(), hash))
            }
            _ => Err(Error::Setting {
                what: self.path.display().to_string(),
                fault: format!(
                    "holds the secrets of another import: line {at} has no place in it, give another file"
                ),
            }),
        }
    }
}
