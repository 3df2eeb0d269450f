//! How the node port speaks TLS: 1.3 alone, with a certificate of the CA of nodes, which is renewed in time.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use fastgate::identity::NodeCertificate;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
        WebPkiClientVerifier,
    },
    sign::CertifiedKey,
    version::TLS13,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Peer,
    authority::{Authority, SigningError},
    revocations::Revocations,
};

/// Makes connections of sockets, and says who is on the other side.
pub(crate) struct NodeTls {
    acceptor: TlsAcceptor,
    revocations: Revocations,
}

/// Why TLS can't be spoken.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl NodeTls {
    /// For a port of these names, hosts and addresses.
    pub(super) fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        revocations: Revocations,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.ca().certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let certificate = PortCertificate::new(authority, names)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not look at the certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), revocations })
    }

    /// Shakes hands.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        let stream = self.acceptor.accept(socket).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let peer = match shown.map(|shown| NodeCertificate::read(shown)) {
            None => Peer::Stranger,
            Some(Ok(certificate)) => Peer::node(certificate, self.revocations.clone()),
            // Signed by the CA, so by other hands than these.
            Some(Err(fault)) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        };
        Ok((stream, peer))
    }
}

/// The certificate of the port: another one is made once two thirds of its life are over.
struct PortCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: Mutex<(Arc<CertifiedKey>, SystemTime)>,
}

impl PortCertificate {
    fn new(authority: Arc<Authority>, names: Vec<String>) -> Result<Self, SigningError> {
        let (key, renew_at) = authority.sign_server(&names, SystemTime::now())?;
        Ok(Self { authority, names, current: Mutex::new((Arc::new(key), renew_at)) })
    }

    fn at(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= current.1 {
            match self.authority.sign_server(&self.names, now) {
                Ok((key, renew_at)) => *current = (Arc::new(key), renew_at),
                Err(fault) => {
                    tracing::error!(%fault, "the certificate of the node port stays as it is")
                }
            }
        }
        Arc::clone(&current.0)
    }
}

impl ResolvesServerCert for PortCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(SystemTime::now()))
    }
}

impl fmt::Debug for PortCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortCertificate(..)")
    }
}
