//! Trusts a control plane at first contact by the CA that a join token names.

use std::sync::Arc;

use fastgate::identity::Fingerprint;
use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Takes the server's certificate where the CA that goes along with it has this fingerprint, and has
/// signed it.
#[derive(Debug)]
pub(super) struct ByFingerprint {
    ca: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ByFingerprint {
    pub(super) fn new(ca: Fingerprint) -> Self {
        Self { ca, provider: Arc::new(ring::default_provider()) }
    }
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_named =
            |shown: &&CertificateDer<'_>| Fingerprint::of_certificate(shown) == Ok(self.ca);
        let Some(ca) = intermediates.iter().find(is_named) else {
            let told = "the control plane is not of the CA that the join token names: take the \
                        address of the control plane that made the token";
            return Err(Error::General(told.into()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        let verifier = verifier.map_err(|fault| Error::General(fault.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the control plane speaks an old version of TLS".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
