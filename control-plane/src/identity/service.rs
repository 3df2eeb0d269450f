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
    metrics::{IdentityCounts, JoinRefusal},
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
    pub(super) counts: IdentityCounts,
}

/// Why a node is not let in, and what it is told.
struct Refused {
    reason: JoinRefusal,
    status: Status,
}

impl Issuing {
    pub(super) fn service(self) -> NodeIdentityServer<Self> {
        NodeIdentityServer::new(self).max_decoding_message_size(REQUEST)
    }

    fn sign(&self, csr: &[u8], node: NodeName) -> Result<(String, Issued), Refused> {
        let signed = self.authority.sign_node(csr, node, SystemTime::now());
        signed.map_err(|fault| match fault {
            SigningError::Request | SigningError::Signature | SigningError::Key => {
                Refused::invalid(format!("csr: {fault}"))
            }
            SigningError::Signing(_) | SigningError::Unusable(_) | SigningError::Random(_) => {
                tracing::error!(%fault, "can't sign the certificate of a node");
                let status = Status::internal("the certificate could not be signed");
                Refused { reason: JoinRefusal::Unavailable, status }
            }
        })
    }

    fn answer(&self, certificate: String) -> Response<IssuedCertificate> {
        let ca = self.authority.ca().pem.clone();
        Response::new(IssuedCertificate { certificate, ca })
    }

    async fn let_in(&self, request: JoinRequest) -> Result<Response<IssuedCertificate>, Refused> {
        let JoinRequest { token, environment, node_id, csr } = request;
        let id = |field: &str, text: &str| {
            Id::parse(text).map_err(|fault| Refused::invalid(format!("{field}: {fault}")))
        };
        let (environment, node_id) = (id("environment", &environment)?, id("node_id", &node_id)?);
        let node = NodeName { environment, node_id };
        let hash = self.admit(&token, &node).await?;
        let (certificate, issued) = self.sign(&csr, node)?;
        if !self.store.join(&hash, &issued).await? {
            return Err(Refused::token(JoinRefusal::Used, "was used or deleted"));
        }
        tracing::info!(node = %issued.node, serial = %issued.serial, "a node joined");
        Ok(self.answer(certificate))
    }

    /// The hash of a token that this node may use now.
    async fn admit(&self, token: &str, node: &NodeName) -> Result<SecretHash, Refused> {
        let refuse = |reason, why: &str| Err(Refused::token(reason, why));
        let Some(hash) = SecretHash::of_sent(Kind::JoinToken, token.as_bytes()) else {
            return refuse(JoinRefusal::Malformed, "can't be right");
        };
        let Some(token) = self.store.join_token(&hash).await? else {
            let why = "is not known: it was deleted, or has expired";
            return refuse(JoinRefusal::Unknown, why);
        };
        if token.expires_at <= SystemTime::now() {
            return refuse(JoinRefusal::Expired, "has expired");
        }
        if !token.is_for(node) {
            let only = token.node_id.map(|only| format!("node '{only}' of ")).unwrap_or_default();
            let environment = token.environment;
            let status = Status::permission_denied(format!(
                "the join token is for {only}environment '{environment}', not for {node}: {MEND}"
            ));
            return Err(Refused { reason: JoinRefusal::Elsewhere, status });
        }
        Ok(hash)
    }
}

impl Refused {
    fn invalid(told: String) -> Self {
        Self { reason: JoinRefusal::Request, status: Status::invalid_argument(told) }
    }

    fn token(reason: JoinRefusal, why: &str) -> Self {
        let status = Status::unauthenticated(format!("the join token {why}: {MEND}"));
        Self { reason, status }
    }
}

impl From<StoreError> for Refused {
    fn from(fault: StoreError) -> Self {
        Self { reason: JoinRefusal::Unavailable, status: away(fault) }
    }
}

#[async_trait]
impl NodeIdentity for Issuing {
    async fn join(
        &self,
        request: Request<JoinRequest>,
    ) -> Result<Response<IssuedCertificate>, Status> {
        let joined = self.let_in(request.into_inner()).await;
        match joined {
            Ok(answer) => {
                self.counts.joins.inc();
                Ok(answer)
            }
            Err(Refused { reason, status }) => {
                self.counts.refuse(reason);
                Err(status)
            }
        }
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<IssuedCertificate>, Status> {
        let Peer::Node(proven) = Peer::of(request.extensions()) else {
            return Err(Status::unauthenticated("no certificate was shown"));
        };
        let csr = request.into_inner().csr;
        let signed = self.sign(&csr, proven.certificate().node.clone());
        let (certificate, issued) = signed.map_err(|refused| refused.status)?;
        if !self.store.renew(proven.serial(), &issued).await.map_err(away)? {
            return Err(Status::unauthenticated(format!(
                "the certificate of {} was revoked: let the node join with a new token",
                issued.node
            )));
        }
        self.counts.renewals.inc();
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
