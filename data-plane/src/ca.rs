//! The certificates that a server's own must be signed by, in a file that a setting names.

use std::{fs, path::Path};

use fastgate::tls::authorities;

/// Reads such a file, in PEM.
///
/// # Errors
/// What is wrong with it, and the mend.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    authorities(path, fs::read(path))
}
