//! What is wrong with config documents: file, line, and what to do about it.

use std::fmt;

use super::shown;

/// The faults of documents, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

/// One fault: where, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) file: String,
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = shown(&self.message);
        match self.line {
            Some(line) => write!(f, "{}:{line}: {text}", self.file),
            None => write!(f, "{}: {text}", self.file),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            // The first stands behind `error: `; the others keep in line with it.
            let lead = if at == 0 { "" } else { "\n       " };
            write!(f, "{lead}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
