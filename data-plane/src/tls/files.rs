//! The files of a certificate and its key. What is wrong with them is told by file and setting,
//! never by a line of theirs: it might be of the key.

use std::{fs, path::Path};

use fastgate::settings::Mistakes;
use rustls::{
    Error, InconsistentKeys,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};

use crate::settings::TlsSettings;

/// What both files hold.
pub(super) struct Files {
    cert: Vec<u8>,
    key: SecretSlice<u8>,
}

/// Tells one content of the files from another.
pub(super) type Fingerprint = [u8; 32];

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// Which can't be read, and why.
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, Mistakes> {
        let mut found = Mistakes::default();
        let mut read = |flag: &str, path: &Path| {
            fs::read(path).unwrap_or_else(|fault| {
                let path = path.display();
                found
                    .add(format!("{flag}: can't read {path}: {fault}: name a file the node reads"));
                Vec::new()
            })
        };
        let cert = read("--tls-cert", &settings.cert);
        let key = read("--tls-key", &settings.key).into();
        found.or(Self { cert, key })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update((self.cert.len() as u64).to_be_bytes());
        hash.update(&self.cert);
        hash.update(self.key.expose_secret());
        hash.finalize().into()
    }

    /// The certificate, those it is signed by, and its key.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub(super) fn parse(&self, settings: &TlsSettings) -> Result<CertifiedKey, Mistakes> {
        let mut found = Mistakes::default();
        let (cert, key) = (settings.cert.display(), settings.key.display());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = match chain {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                found.add(format!("--tls-cert: {cert} holds no certificate: {CERT_MEND}"));
                None
            }
            Err(fault) => {
                found.add(format!("--tls-cert: {cert} {}: {CERT_MEND}", told(&fault)));
                None
            }
        };
        let private = match PrivateKeyDer::from_pem_slice(self.key.expose_secret()) {
            Ok(private) => Some(private),
            Err(pem::Error::NoItemsFound) => {
                found.add(format!("--tls-key: {key} holds no key that can be read: {KEY_MEND}"));
                None
            }
            Err(fault) => {
                found.add(format!("--tls-key: {key} {}: {KEY_MEND}", told(&fault)));
                None
            }
        };
        let (Some(chain), Some(private)) = (chain, private) else { return Err(found) };
        CertifiedKey::from_der(chain, private, &provider()).map_err(|fault| {
            Mistakes::one(match fault {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                    "--tls-key: {key} is not the key of the first certificate in {cert}: give \
                     two that belong together, the server's own certificate first"
                ),
                Error::InvalidCertificate(_) => {
                    format!("--tls-cert: the first certificate in {cert} is malformed: {CERT_MEND}")
                }
                _ => format!("--tls-key: {key} holds a key that can't be used: {KEY_MEND}"),
            })
        })
    }
}

const CERT_MEND: &str = "give PEM, the server's own certificate first, then those that signed it";

const KEY_MEND: &str = "give PEM, not encrypted: PKCS#8, SEC1 or PKCS#1; ECDSA on P-256 or P-384, \
                        Ed25519, or RSA from 2048 bits on";

/// The cryptography everything here is done with.
pub(super) fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// What is wrong with a file of PEM.
fn told(fault: &pem::Error) -> &'static str {
    match fault {
        pem::Error::MissingSectionEnd { .. } => "ends in the middle",
        pem::Error::Base64Decode(_) => "holds broken base64",
        pem::Error::SectionTooLarge => "is too large",
        _ => "is no sound PEM",
    }
}
