//! Signs certificates: for nodes, whose name it alone decides, and for the node port.

use std::time::{Duration, SystemTime};

use fastgate::identity::{CertificateError, Fingerprint, NodeName, Serial};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SubjectPublicKeyInfo,
};
use rustls::{crypto::ring, pki_types::PrivateKeyDer, sign::CertifiedKey};
use thiserror::Error;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};

use super::ca_dir::Ca;
use crate::domain::Issued;

/// How far the clock of a node may be behind that of the control plane; of a short life, a part of it.
const BEHIND: Duration = Duration::from_secs(300);

/// How long the certificate of the node port holds. It is in memory alone.
const SERVER_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// The CA of nodes.
pub(crate) struct Authority {
    ca: Ca,
    fingerprint: Fingerprint,
    life: Duration,
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub(crate) enum SigningError {
    #[error("can't be read as a PKCS #10 request in DER")]
    Request,
    #[error("is not signed by the key it holds")]
    Signature,
    #[error("holds another key than one of ECDSA on P-256")]
    Key,
    #[error(transparent)]
    Signing(#[from] rcgen::Error),
    #[error("the key can't be used: {0}")]
    Unusable(#[from] rustls::Error),
    #[error("the operating system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Authority {
    /// A CA whose nodes' certificates hold for so long.
    pub(super) fn new(ca: Ca, life: Duration) -> Result<Self, CertificateError> {
        let fingerprint = Fingerprint::of_certificate(&ca.certificate)?;
        Ok(Self { ca, fingerprint, life })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The certificate of a node, in PEM, for the key in its request. Nothing else the request asks for counts.
    pub(super) fn sign_node(
        &self,
        request: &[u8],
        node: NodeName,
        now: SystemTime,
    ) -> Result<(String, Issued), SigningError> {
        let (key, fingerprint) = key_of(request)?;
        let serial = Serial::random()?;
        let mut params = leaf(&serial, node.node_id.as_str(), now, self.life);
        params.subject_alt_names = vec![SanType::URI(node.to_uri().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &self.ca.issuer)?;
        let expires_at = now + self.life;
        let issued = Issued { serial, node, key: fingerprint, issued_at: now, expires_at };
        Ok((signed.pem(), issued))
    }

    /// A certificate of the node port for these names, with a key of its own, and when to make the next.
    pub(super) fn sign_server(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<(CertifiedKey, SystemTime), SigningError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(&Serial::random()?, "FastGate node port", now, SERVER_LIFE);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &self.ca.issuer)?;
        // The CA goes along: a node that joins knows no more of it than its fingerprint.
        let chain = vec![signed.der().clone(), self.ca.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok((key, now + SERVER_LIFE * 2 / 3))
    }
}

/// What all certificates that sign no others have in common.
fn leaf(serial: &Serial, name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.as_bytes().to_vec().into());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BEHIND.min(life / 10)).into();
    params.not_after = (now + life).into();
    params
}

/// The key a request is for, and signed by.
fn key_of(request: &[u8]) -> Result<(SubjectPublicKeyInfo, Fingerprint), SigningError> {
    let read = X509CertificationRequest::from_der(request);
    let Ok(([], read)) = read else { return Err(SigningError::Request) };
    read.verify_signature().map_err(|_| SigningError::Signature)?;
    let der = read.certification_request_info.subject_pki.raw;
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(key) if *key.algorithm() == PKCS_ECDSA_P256_SHA256 => {
            Ok((key, Fingerprint::of_key(der)))
        }
        _ => Err(SigningError::Key),
    }
}
