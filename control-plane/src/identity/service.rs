//! The gRPC service nodes get their certificates from.

use std::{sync::Arc, time::SystemTime};

use fastgate::{
    identity::NodeName,
    model::Id,
    node::v1::{
        IssuedCertificate, JoinRequest, RenewRequest,
        node_identity_server::{NodeIdentity, NodeIdentityServer},
    },
    secret::{Kind, SecretHash},
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Peer,
    authority::{Authority, SigningError},
};
use crate::{
    domain::Issued,
    store::{Store, StoreError},
};

/// The largest request taken in: one of P-256 has a few hundred bytes.
const REQUEST: usize = 16 << 10;

/// What a node is told to do about a token.
const MEND: &str = "make another with 'fgctl nodes tokens create'";

/// Answers `fastgate.node.v1.NodeIdentity`.
pub(crate) struct Issuing {
    pub(super) authority: Arc<Authority>,
    pub(super) store: Arc<dyn Store>,
}

impl Issuing {
    pub(super) fn service(self) -> NodeIdentityServer<Self> {
        NodeIdentityServer::new(self).max_decoding_message_size(REQUEST)
    }

    fn sign(&self, csr: &[u8], node: NodeName) -> Result<(String, Issued), Status> {
        let signed = self.authority.sign_node(csr, node, SystemTime::now());
        signed.map_err(|fault| match fault {
            SigningError::Request | SigningError::Signature | SigningError::Key => {
                Status::invalid_argument(format!("csr: {fault}"))
            }
            SigningError::Signing(_) | SigningError::Unusable(_) | SigningError::Random(_) => {
                tracing::error!(%fault, "can't sign the certificate of a node");
                Status::internal("the certificate could not be signed")
            }
        })
    }

    fn answer(&self, certificate: String) -> Response<IssuedCertificate> {
        let ca = self.authority.ca().pem.clone();
        Response::new(IssuedCertificate { certificate, ca })
    }

    /// The hash of a token that this node may use now.
    async fn admit(&self, token: &str, node: &NodeName) -> Result<SecretHash, Status> {
        let refuse =
            |why: &str| Err(Status::unauthenticated(format!("the join token {why}: {MEND}")));
        let Some(hash) = SecretHash::of_sent(Kind::JoinToken, token.as_bytes()) else {
            return refuse("can't be right");
        };
        let Some(token) = self.store.join_token(&hash).await.map_err(away)? else {
            return refuse("is not known: it was deleted, or has expired");
        };
        if token.expires_at <= SystemTime::now() {
            return refuse("has expired");
        }
        if !token.is_for(node) {
            let only = token.node_id.map(|only| format!("node '{only}' of ")).unwrap_or_default();
            let environment = token.environment;
            return Err(Status::permission_denied(format!(
                "the join token is for {only}environment '{environment}', not for {node}: {MEND}"
            )));
        }
        Ok(hash)
    }
}

#[async_trait]
impl NodeIdentity for Issuing {
    async fn join(
        &self,
        request: Request<JoinRequest>,
    ) -> Result<Response<IssuedCertificate>, Status> {
        let JoinRequest { token, environment, node_id, csr } = request.into_inner();
        let id = |field: &str, text: &str| {
            Id::parse(text).map_err(|fault| Status::invalid_argument(format!("{field}: {fault}")))
        };
        let (environment, node_id) = (id("environment", &environment)?, id("node_id", &node_id)?);
        let node = NodeName { environment, node_id };
        let hash = self.admit(&token, &node).await?;
        let (certificate, issued) = self.sign(&csr, node)?;
        if !self.store.join(&hash, &issued).await.map_err(away)? {
            let told = format!("the join token was used or deleted: {MEND}");
            return Err(Status::unauthenticated(told));
        }
        tracing::info!(node = %issued.node, serial = %issued.serial, "a node joined");
        Ok(self.answer(certificate))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<IssuedCertificate>, Status> {
        let Peer::Node(proven) = Peer::of(request.extensions()) else {
            return Err(Status::unauthenticated("no certificate was shown"));
        };
        let csr = request.into_inner().csr;
        let (certificate, issued) = self.sign(&csr, proven.certificate().node.clone())?;
        if !self.store.renew(proven.serial(), &issued).await.map_err(away)? {
            return Err(Status::unauthenticated(format!(
                "the certificate of {} was revoked: let the node join with a new token",
                issued.node
            )));
        }
        tracing::info!(node = %issued.node, serial = %issued.serial, "renewed a node's certificate");
        Ok(self.answer(certificate))
    }
}

fn away(fault: StoreError) -> Status {
    tracing::error!(error = %fault, "can't see to the certificate of a node");
    match fault {
        StoreError::Internal(_) => Status::internal("something went wrong in the control plane"),
        _ => Status::unavailable("the database is not available"),
    }
}
