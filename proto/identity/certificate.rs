//! What is read out of certificates. Whether they are to be trusted is for TLS to say, before.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};

use super::NodeName;

/// What the certificate of a node says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeCertificate {
    /// Whose it is.
    pub node: NodeName,
    /// Tells it from all others of its CA.
    pub serial: Serial,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// Why something is not the certificate it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CertificateError {
    /// It is none, or broken.
    #[error("it can't be read as a certificate")]
    Malformed,
    /// It is one, but that of no node.
    #[error("it is no certificate of a node")]
    NoNode,
}

impl NodeCertificate {
    /// Reads it from DER.
    ///
    /// # Errors
    /// When it is none of a node.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|_| CertificateError::Malformed)?;
        let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
        // One that named two nodes would be a certificate for either.
        let [GeneralName::URI(uri)] = names else { return Err(CertificateError::NoNode) };
        let validity = certificate.validity();
        Ok(Self {
            node: NodeName::from_uri(uri).ok_or(CertificateError::NoNode)?,
            serial: Serial::from_bytes(certificate.raw_serial()).ok_or(CertificateError::NoNode)?,
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        })
    }
}

/// The SHA-256 of a public key with its algorithm (SubjectPublicKeyInfo, RFC 5280 §4.1). A CA is known by
/// it: it stays the same when the CA's certificate is made anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of the key in a certificate, in DER.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self::of_key(parse(der)?.public_key().raw))
    }

    /// That of a key: its SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn of_key(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 32 bytes; `None` where there are more or fewer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// As hex digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The number of a certificate: 126 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        // Positive, and always 16 bytes long (RFC 5280 §4.1.2.2).
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Ok(Self(bytes))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 16 bytes; `None` where there are more or fewer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// As `openssl x509 -serial` writes it.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_and_of_one_length() {
        for _ in 0..100 {
            let serial = Serial::random().expect("random bytes");
            assert!((0x40..0x80).contains(&serial.0[0]), "{serial}");
            assert_eq!(Serial::from_bytes(serial.as_bytes()), Some(serial));
        }
        assert_eq!(Serial::from_bytes(&[1; 15]), None);
    }

    #[test]
    fn junk_is_no_certificate() {
        for junk in [&b""[..], b"\x30\x00", b"-----BEGIN CERTIFICATE-----", &[0x30; 200]] {
            assert_eq!(NodeCertificate::read(junk), Err(CertificateError::Malformed));
            assert_eq!(Fingerprint::of_certificate(junk), Err(CertificateError::Malformed));
        }
    }
}
