//! A CA of openssl's, and what it signs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::command::run_ok;

/// A CA in a folder: `ca.pem`, and `cert.pem` with `key.pem` for a server.
pub(crate) struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes one in a new folder.
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::create_dir(dir).expect("a folder");
        let authority = Self { dir: dir.into() };
        authority.openssl(
            "req -x509 -nodes -days 2 -subj /CN=test-ca -newkey ec -pkeyopt \
             ec_paramgen_curve:P-256 -keyout ca-key.pem -out ca.pem",
        );
        authority
    }

    /// Signs a certificate for `localhost` and `127.0.0.1`, beside the one in use.
    fn sign(&self, days: &str) {
        self.openssl(
            "req -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout new-key.pem -out new.csr",
        );
        self.openssl(&format!(
            "x509 -req -in new.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days {days} \
             -copy_extensions copy -out new.pem"
        ));
    }

    /// Puts a new certificate in place, as programs that renew them do: one file after the other.
    pub(crate) fn renew(&self, days: &str) {
        self.sign(days);
        for (new, place) in [("new.pem", self.cert()), ("new-key.pem", self.key())] {
            std::fs::rename(self.dir.join(new), place).expect("renames");
        }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    fn openssl(&self, command: &str) {
        run_ok(Command::new("openssl").current_dir(&self.dir).args(command.split_whitespace()));
    }
}
