//! Who a node is, as its certificate says it, and what it joins with. Control plane and nodes read and
//! write it alike.

mod certificate;
mod token;

use std::fmt;

pub use certificate::{CertificateError, Fingerprint, NodeCertificate, Serial};
pub use token::JoinToken;

use crate::model::Id;

/// The name of a node among all of them: its certificate is for this, and for nothing else.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeName {
    /// The only environment it reads.
    pub environment: Id,
    /// The node in it.
    pub node_id: Id,
}

impl NodeName {
    const SCHEME: &str = "spiffe://fastgate/environment/";

    /// As certificates write it.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{}{}/node/{}", Self::SCHEME, self.environment, self.node_id)
    }

    /// Reads what [`NodeName::to_uri`] writes; `None` for everything else.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (environment, node_id) = uri.strip_prefix(Self::SCHEME)?.split_once("/node/")?;
        let (environment, node_id) = (Id::parse(environment).ok()?, Id::parse(node_id).ok()?);
        Some(Self { environment, node_id })
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node '{}' of environment '{}'", self.node_id, self.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        let id = |text| Id::parse(text).expect("an id");
        let name = NodeName { environment: id("prod"), node_id: id("node-1") };
        let uri = name.to_uri();
        assert_eq!(uri, "spiffe://fastgate/environment/prod/node/node-1");
        assert_eq!(NodeName::from_uri(&uri), Some(name));
        for other in [
            "",
            "spiffe://fastgate/environment/prod",
            "spiffe://fastgate/environment//node/n",
            "spiffe://fastgate/environment/prod/node/",
            "spiffe://fastgate/environment/prod/node/n/node/m",
            "spiffe://fastgate/environment/prod/x/node/n",
            "spiffe://other/environment/prod/node/n",
            "SPIFFE://fastgate/environment/prod/node/n",
            "spiffe://fastgate/environment/Prod/node/n",
        ] {
            assert_eq!(NodeName::from_uri(other), None, "{other}");
        }
    }
}
