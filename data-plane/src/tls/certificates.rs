//! The certificate of a node, and how TLS is spoken with it.

use std::{fmt, sync::Arc};

use fastgate::settings::Mistakes;
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    HTTP2, HTTP11,
    files::{Files, provider},
};
use crate::settings::TlsSettings;

/// The certificate of a node.
pub(crate) struct Certificates {
    in_use: Arc<InUse>,
}

/// What every handshake is given.
struct InUse(Arc<CertifiedKey>);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, Mistakes> {
        let certificate = Files::read(settings)?.parse(settings)?;
        Ok(Self { in_use: Arc::new(InUse(Arc::new(certificate))) })
    }

    /// How TLS is spoken with this certificate.
    ///
    /// # Errors
    /// When the system has no random bytes for the key of the tickets.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.in_use.clone());
        config.alpn_protocols = [HTTP2, HTTP11].map(<[u8]>::to_vec).into();
        config.ticketer = Ticketer::new()?;
        // All there is to a session is in its ticket: workers share no table of them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse(..)")
    }
}
