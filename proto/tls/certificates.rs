//! The certificate in use, which follows its files: whoever renews it need not restart the server.

use std::{fmt, mem, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring::{self, Ticketer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::{CertificateFiles, Contents, Fingerprint};
use crate::settings::Mistakes;

/// The certificate of a port.
pub struct Certificates {
    files: CertificateFiles,
    in_use: Arc<InUse>,
    /// What the files held when they were last looked at.
    seen: Seen,
    /// What is wrong with that, until it is told.
    untold: Option<Mistakes>,
}

/// What came of looking at the files again.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing to tell.
    Same,
    /// They hold another certificate, which the next handshake is given.
    Renewed,
    /// They are bad, and the certificate stays as it was. Told once.
    Bad(Mistakes),
}

#[derive(PartialEq, Eq)]
enum Seen {
    Files(Fingerprint),
    /// They could not be read.
    Nothing,
}

/// Each handshake takes the newest.
struct InUse(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Takes what was read of the files into use.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(
        files: CertificateFiles,
        read: Result<Contents, Mistakes>,
    ) -> Result<Self, Mistakes> {
        let contents = read?;
        let in_use = ArcSwap::from_pointee(files.parse(&contents)?);
        let seen = Seen::Files(contents.fingerprint());
        Ok(Self { files, in_use: Arc::new(InUse(in_use)), seen, untold: None })
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// How TLS is spoken with this certificate and all that come after it: versions 1.2 and 1.3, HTTP/2 and
    /// HTTP/1.1 by ALPN, resumption by tickets that only this process can read, no early data.
    ///
    /// # Errors
    /// When the system has no random bytes for the key of the tickets.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.in_use.clone());
        config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(<[u8]>::to_vec).into();
        config.ticketer = Ticketer::new()?;
        // All there is to a session is in its ticket: threads share no table of them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// Takes what is new of what was read into use. What is bad is told once, and not before it is seen
    /// twice: the two files are seldom replaced in the same moment.
    pub fn look_at(&mut self, read: Result<Contents, Mistakes>) -> Look {
        let now = read.as_ref().map_or(Seen::Nothing, |read| Seen::Files(read.fingerprint()));
        if mem::replace(&mut self.seen, now) == self.seen {
            return self.untold.take().map_or(Look::Same, Look::Bad);
        }
        match read.and_then(|read| self.files.parse(&read)) {
            Ok(certificate) => {
                self.in_use.0.store(Arc::new(certificate));
                self.untold = None;
                Look::Renewed
            }
            Err(mistakes) => {
                self.untold = Some(mistakes);
                Look::Same
            }
        }
    }

    /// When the one in use ends; clients refuse it from then on. `None`: it can't be told.
    #[must_use]
    pub fn ends(&self) -> Option<SystemTime> {
        let in_use = self.in_use.0.load();
        let (_, certificate) = X509Certificate::from_der(in_use.cert.first()?).ok()?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds))
    }

    /// The certificate handshakes are given.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> Vec<u8> {
        self.in_use.0.load().cert.iter().flat_map(|cert| cert.to_vec()).collect()
    }
}

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse(..)")
    }
}
