//! Which node is on the other side of the node port, and how it comes by the certificate that says so.
//!
//! ```text
//! join token --Join--> Authority --certificate--> node --mTLS--> Peer, in every request
//!     (once)           signs, store remembers              '--> Guard, then the services
//! ```
//!
//! With a CA of nodes the port speaks TLS 1.3 alone, and whoever shows no certificate may do nothing but
//! join. Without one it is plain text on loopback, and whatever a node says of itself is believed.

mod authority;
mod ca_dir;
mod guard;
mod peer;
mod revocations;
mod service;
#[cfg(test)]
mod tests;
mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use fastgate::{
    identity::{CertificateError, Fingerprint},
    node::v1::node_identity_server::NodeIdentityServer,
};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{authority::Authority, revocations::Revocations, service::Issuing};
pub(crate) use self::{guard::Guard, peer::Peer, tls::NodeTls};
use crate::{
    metrics::IdentityCounts,
    store::{Store, StoreError},
};

/// Where the CA of nodes is, and what it signs.
#[derive(Clone, Debug)]
pub struct NodeCa {
    /// Holds `ca.pem` and `ca-key.pem`; both are made where there is neither.
    pub dir: PathBuf,
    /// What nodes call this control plane by, hosts or addresses, besides those of this machine.
    pub names: Vec<String>,
    /// How long the certificate of a node holds.
    pub certificate_life: Duration,
}

impl NodeCa {
    /// The CA in this folder, with what holds where nothing else is said.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let certificate_life = Duration::from_secs(30 * 86_400);
        Self { dir, names: Vec::new(), certificate_life }
    }
}

/// Why nodes can't be let in.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("--node-ca-dir: {0}")]
    Dir(#[from] ca_dir::CaDirError),
    /// Nodes that joined elsewhere would be strangers here.
    #[error(
        "--node-ca-dir: the CA in {} has the fingerprint {found}, and nodes of this database have \
         joined one with {kept}: give this control plane the ca.pem and ca-key.pem of the others, \
         or, to begin anew with this CA, delete the row of the table node_ca and let all nodes join \
         again", dir.display()
    )]
    OtherCa { dir: PathBuf, found: Fingerprint, kept: Fingerprint },
    #[error("--node-ca-dir: the CA can't be used: {0}")]
    Ca(#[from] CertificateError),
    #[error("the node port can't speak TLS: {0}: check that the system gives random bytes")]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lets nodes in, on behalf of one control plane.
pub(crate) struct Identities {
    authority: Arc<Authority>,
    revocations: Revocations,
    tls: Arc<NodeTls>,
    counts: IdentityCounts,
}

impl Identities {
    /// Opens the CA, for a port bound to `address`.
    pub(crate) async fn open(
        ca: &NodeCa,
        address: SocketAddr,
        store: &dyn Store,
        counts: IdentityCounts,
    ) -> Result<Self, IdentityError> {
        let authority = Authority::new(ca_dir::open(&ca.dir)?, ca.certificate_life)?;
        let authority = Arc::new(authority);
        let found = authority.fingerprint();
        let kept = store.node_ca(found).await?;
        if kept != found {
            return Err(IdentityError::OtherCa { dir: ca.dir.clone(), found, kept });
        }
        // Before the first node comes: one that is revoked must not slip in.
        let revocations = Revocations::read(store).await?;
        let mut names = ca.names.clone();
        names.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
        let tls = NodeTls::new(Arc::clone(&authority), names, revocations.clone())?;
        Ok(Self { authority, revocations, tls: Arc::new(tls), counts })
    }

    /// How the node port speaks.
    pub(crate) fn tls(&self) -> Arc<NodeTls> {
        Arc::clone(&self.tls)
    }

    /// What join tokens name the CA by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    /// The service nodes get their certificates from.
    pub(crate) fn service(&self, store: Arc<dyn Store>) -> NodeIdentityServer<Issuing> {
        let (authority, counts) = (Arc::clone(&self.authority), self.counts.clone());
        Issuing { authority, store, counts }.service()
    }

    /// Hears of revocations until `stop`.
    pub(crate) fn follow(&self, store: Arc<dyn Store>, stop: &CancellationToken) -> JoinHandle<()> {
        let (revocations, stop) = (self.revocations.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = revocations.follow(store) => {}
            }
        })
    }
}
