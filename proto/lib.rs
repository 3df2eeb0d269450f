//! The FastGate API and the rules both planes share.
//!
//! [`admin::v1`] is what people and integrations call, [`node::v1`] what nodes and the control
//! plane say to each other; both are generated from the `.proto` files beside this one. The
//! other modules hold what must come out the same on both sides: the form of a secret
//! ([`secret`]), who a node is ([`identity`]), the digest of a config ([`digest`]), how times of requests are counted ([`durations`]), what a request path may look like
//! ([`path`]), which audit events a filter means ([`audit`]), what makes a key, route, upstream or
//! plan valid ([`model`]), how a time is written ([`time`]), an audit event ([`event`]) and any text of
//! others ([`escape`]), how a file of settings is read ([`settings`]), and certificates of ports ([`tls`]). No I/O
//! happens here.

pub mod audit;
pub mod digest;
pub mod durations;
mod entity_error;
pub mod escape;
pub mod event;
pub mod identity;
pub mod model;
pub mod path;
pub mod secret;
pub mod settings;
pub mod time;
pub mod tls;

/// The admin API, package `fastgate.admin`.
pub mod admin {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("fastgate.admin.v1");
    }
}

/// The API between nodes and control plane, package `fastgate.node`.
pub mod node {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("fastgate.node.v1");
    }
}

/// The compiled `.proto` files with their imports, as an encoded `FileDescriptorSet`: what
/// reflection serves, and where the REST gateway and `fgctl` read field names from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;
