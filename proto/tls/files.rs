//! The files of a certificate and its key. What is wrong with them is told by file and setting,
//! never by a line of theirs: it might be of the key.

use std::{io, path::PathBuf};

use rustls::{
    Error, InconsistentKeys,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};

use crate::settings::Mistakes;

/// Where a certificate and its key are, and which settings say so.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The file of the certificate and those that signed it.
    pub cert: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
    /// What names the first, such as `--tls-cert`.
    pub cert_flag: &'static str,
    /// What names the other.
    pub key_flag: &'static str,
}

/// What both files hold.
pub struct Contents {
    cert: Vec<u8>,
    key: SecretSlice<u8>,
}

/// Tells one content of the files from another.
pub(super) type Fingerprint = [u8; 32];

impl Contents {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update((self.cert.len() as u64).to_be_bytes());
        hash.update(&self.cert);
        hash.update(self.key.expose_secret());
        hash.finalize().into()
    }
}

impl CertificateFiles {
    /// What was read of both.
    ///
    /// # Errors
    /// Which could not be read, and why.
    pub fn contents(
        &self,
        cert: io::Result<Vec<u8>>,
        key: io::Result<Vec<u8>>,
    ) -> Result<Contents, Mistakes> {
        let mut found = Mistakes::default();
        let mut take = |flag: &str, path: &PathBuf, read: io::Result<Vec<u8>>| {
            read.unwrap_or_else(|fault| {
                let mend = "name a file this program may read";
                found.add(format!("{flag}: can't read {}: {fault}: {mend}", path.display()));
                Vec::new()
            })
        };
        let cert = take(self.cert_flag, &self.cert, cert);
        let key = take(self.key_flag, &self.key, key).into();
        found.or(Contents { cert, key })
    }

    /// The certificate, those it is signed by, and its key.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn parse(&self, contents: &Contents) -> Result<CertifiedKey, Mistakes> {
        let mut found = Mistakes::default();
        let (cert, key) = (self.cert.display(), self.key.display());
        let (of_cert, of_key) = (self.cert_flag, self.key_flag);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.cert).collect();
        let chain = match chain {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                found.add(format!("{of_cert}: {cert} holds no certificate: {CERT_MEND}"));
                None
            }
            Err(fault) => {
                found.add(format!("{of_cert}: {cert} {}: {CERT_MEND}", told(&fault)));
                None
            }
        };
        let private = match PrivateKeyDer::from_pem_slice(contents.key.expose_secret()) {
            Ok(private) => Some(private),
            Err(pem::Error::NoItemsFound) => {
                found.add(format!("{of_key}: {key} holds no key that can be read: {KEY_MEND}"));
                None
            }
            Err(fault) => {
                found.add(format!("{of_key}: {key} {}: {KEY_MEND}", told(&fault)));
                None
            }
        };
        let (Some(chain), Some(private)) = (chain, private) else { return Err(found) };
        CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|fault| {
            Mistakes::one(match fault {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                    "{of_key}: {key} is not the key of the first certificate in {cert}: give \
                     two that belong together, the server's own certificate first"
                ),
                Error::InvalidCertificate(_) => {
                    format!("{of_cert}: the first certificate in {cert} is malformed: {CERT_MEND}")
                }
                _ => format!("{of_key}: {key} holds a key that can't be used: {KEY_MEND}"),
            })
        })
    }
}

const CERT_MEND: &str = "give PEM, the server's own certificate first, then those that signed it";

const KEY_MEND: &str = "give PEM, not encrypted: PKCS#8, SEC1 or PKCS#1; ECDSA on P-256 or P-384, \
                        Ed25519, or RSA from 2048 bits on";

/// What is wrong with a file of PEM.
fn told(fault: &pem::Error) -> &'static str {
    match fault {
        pem::Error::MissingSectionEnd { .. } => "ends in the middle",
        pem::Error::Base64Decode(_) => "holds broken base64",
        pem::Error::SectionTooLarge => "is too large",
        _ => "is no sound PEM",
    }
}
