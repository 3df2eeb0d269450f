//! What the node shows control planes to be known by: a certificate, which it joins for with a token and
//! renews by itself.
//!
//! ```text
//! token file --> Enrollment --Join, Renew--> control plane
//!                  |    '--> identity.pem in the state directory
//!                  '--watch--> ControlPlanes: how every stream and call connects
//! ```
//!
//! Nothing here ever takes anything from the requests: a node whose certificate has ended, or was revoked,
//! goes on with the config it has, and says so.

mod enrollment;
mod held;
#[cfg(test)]
mod tests;
mod verifier;

pub(crate) use self::{
    enrollment::{Enrollment, open},
    held::Credentials,
};

use std::sync::Arc;

/// What a node has of that: its credentials, or why it has none yet.
pub(crate) type Standing = Result<Arc<Credentials>, String>;
