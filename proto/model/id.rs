//! The names of things, as they stand in URLs, files and metrics.

use std::{fmt, sync::Arc};

/// The id of a key, route, upstream, plan or environment: `[a-z0-9][a-z0-9_-]{0,62}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// The environment that is there from the start, and is meant where none is named.
    pub const DEFAULT_ENVIRONMENT: &str = "default";

    /// The same as an id.
    #[must_use]
    pub fn default_environment() -> Self {
        Self(Self::DEFAULT_ENVIRONMENT.into())
    }

    /// Reads an id.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it, for the field it stands in.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing: give an id".into());
        }
        let fits = text.len() <= 63
            && !text.starts_with(['-', '_'])
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !fits {
            return Err(
                "must be 1 to 63 of a-z, 0-9, '-' and '_', and start with a letter or digit".into(),
            );
        }
        Ok(Self(text.into()))
    }

    /// What stands for an id that could not be read, while the other fields are still checked.
    pub(super) fn unknown() -> Self {
        Self("unknown".into())
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}
