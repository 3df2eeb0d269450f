//! A certificate for servers of tests.

use tempfile::TempDir;

use super::*;

/// The folder of a certificate of its own for this machine, and its key.
pub(super) struct Certificate(TempDir);

impl Certificate {
    pub(super) fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("made");
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("written");
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        Self(dir)
    }

    pub(super) fn cert(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}
