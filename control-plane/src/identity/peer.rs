//! Who is on the other side of a connection to the node port.

use std::{sync::Arc, time::SystemTime};

use fastgate::{
    identity::{NodeCertificate, Serial},
    model::Id,
};
use http::Extensions;
use tonic::Status;

use super::revocations::Revocations;

/// Who makes a call. The listener puts it into the extensions of every request.
#[derive(Clone)]
pub(crate) enum Peer {
    /// Somebody on this machine, in plain text: what it says of itself is believed.
    Local,
    /// Somebody without a certificate: it may join, and nothing else.
    Stranger,
    /// The node that its certificate says.
    Node(Arc<Proven>),
}

/// A node whose certificate TLS has found to be its own.
pub(crate) struct Proven {
    certificate: NodeCertificate,
    revocations: Revocations,
}

impl Peer {
    pub(super) fn node(certificate: NodeCertificate, revocations: Revocations) -> Self {
        Self::Node(Arc::new(Proven { certificate, revocations }))
    }

    /// Who makes the call with these extensions. A call without is nobody's that is known.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self::Stranger)
    }

    /// Refuses what a node says of itself that its certificate does not say. `None`: the call is about
    /// the environment as a whole.
    pub(crate) fn check(&self, environment: &Id, node_id: Option<&str>) -> Result<(), Status> {
        let own = match self {
            Self::Local => return Ok(()),
            Self::Stranger => return Err(Status::unauthenticated("no certificate was shown")),
            Self::Node(proven) => &proven.certificate.node,
        };
        let is_own_id = node_id.is_none_or(|node_id| node_id == own.node_id.as_str());
        if own.environment == *environment && is_own_id {
            return Ok(());
        }
        let asked = match node_id {
            Some(node_id) => format!("node '{node_id}' of environment '{environment}'"),
            None => format!("environment '{environment}'"),
        };
        Err(Status::permission_denied(format!(
            "the certificate is that of {own}, and the call is about {asked}: start the node with \
             the names it joined with, or let it join anew"
        )))
    }

    /// Whether it is nobody the node port serves.
    pub(crate) fn may_only_join(&self) -> bool {
        match self {
            Self::Local => false,
            Self::Stranger => true,
            Self::Node(proven) => proven.is_revoked(),
        }
    }

    /// When its certificate ends, if it has one.
    pub(crate) fn certificate_ends(&self) -> Option<SystemTime> {
        match self {
            Self::Node(proven) => Some(proven.certificate.not_after),
            Self::Local | Self::Stranger => None,
        }
    }

    /// Returns when it is let in no longer: its certificate is revoked from now on, or has ended. One that
    /// is revoked already is told so at each call instead, by the guard.
    pub(crate) fn shut_out(&self) -> impl Future<Output = ()> + use<> {
        let proven = match self {
            Self::Node(proven) => Some((Arc::clone(proven), proven.is_revoked())),
            Self::Local | Self::Stranger => None,
        };
        async move {
            let Some((proven, was_revoked)) = proven else { return std::future::pending().await };
            let left = proven.certificate.not_after.duration_since(SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(left.unwrap_or_default()) => {}
                () = proven.revocations.revoked(&proven.certificate.serial), if !was_revoked => {}
            }
        }
    }
}

impl Proven {
    pub(super) fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }

    pub(super) fn serial(&self) -> &Serial {
        &self.certificate.serial
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revocations.contains(&self.certificate.serial)
    }
}
