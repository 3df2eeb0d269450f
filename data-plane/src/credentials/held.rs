//! A certificate with its key, in memory and on disk.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use fastgate::{
    identity::{Fingerprint, NodeCertificate, NodeName},
    secret::SecretHash,
};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::{backoff::random, private};

/// What stands before the hash of the token that was used up, in the file.
const TOKEN: &str = "# joined with the token ";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// What proves who the node is.
pub(crate) struct Credentials {
    /// PKCS #8 in PEM.
    key: SecretString,
    /// Both in PEM.
    certificate: String,
    ca: String,
    ca_fingerprint: Fingerprint,
    says: NodeCertificate,
    /// When to ask for the next one.
    renew_at: SystemTime,
    /// The token it goes back to, which opens nothing any more.
    token: SecretHash,
}

/// Why something can't be used as credentials.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("is damaged")]
    Damaged,
    #[error("holds a key that does not belong to its certificate")]
    OtherKey,
    #[error("holds the certificate of {0}")]
    OtherNode(NodeName),
}

impl Credentials {
    /// What was issued for a key, looked through: `node` must be whom it is for.
    ///
    /// # Errors
    /// When it is of no use to this node.
    pub(super) fn new(
        key: SecretString,
        (certificate, ca): (String, String),
        token: SecretHash,
        node: &NodeName,
    ) -> Result<Self, Unfit> {
        let der =
            |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Unfit::Damaged);
        let (own, issuer) = (der(&certificate)?, der(&ca)?);
        let says = NodeCertificate::read(&own).map_err(|_| Unfit::Damaged)?;
        let ca_fingerprint = Fingerprint::of_certificate(&issuer).map_err(|_| Unfit::Damaged)?;
        let private = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
        let private = private.map_err(|_| Unfit::Damaged)?;
        CertifiedKey::from_der(vec![own], private, &ring::default_provider())
            .map_err(|_| Unfit::OtherKey)?;
        if says.node != *node {
            return Err(Unfit::OtherNode(says.node));
        }
        let renew_at = renewal(&says, random());
        Ok(Self { key, certificate, ca, ca_fingerprint, says, renew_at, token })
    }

    /// Reads those on disk; `None`: there are none.
    ///
    /// # Errors
    /// When what is there is of no use.
    pub(super) fn load(path: &Path, node: &NodeName) -> Result<Option<Self>, Unfit> {
        let text = match fs::read_to_string(path) {
            Ok(text) => SecretString::from(text),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(fault.into()),
        };
        let text = text.expose_secret();
        let token = text.lines().find_map(|line| line.strip_prefix(TOKEN));
        let token = token.and_then(SecretHash::from_hex).ok_or(Unfit::Damaged)?;
        let mut parts = text.match_indices(BEGIN).map(|(at, _)| at);
        let (Some(own), Some(ca), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Unfit::Damaged);
        };
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
        let pair = (part(own, ca), part(ca, text.len()));
        Self::new(part(0, own).into(), pair, token, node).map(Some)
    }

    /// Writes them to disk; they survive a crash of the machine once this returns.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut file = private::file().truncate(true).open(&draft)?;
        writeln!(file, "{TOKEN}{}", self.token.to_hex())?;
        let key = self.key.expose_secret();
        // The key as it was read begins with the line above.
        let key = key.lines().filter(|line| !line.starts_with(TOKEN));
        for line in key.chain(self.certificate.lines()).chain(self.ca.lines()) {
            writeln!(file, "{line}")?;
        }
        file.sync_all()?;
        fs::rename(&draft, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// How TLS is spoken with them.
    pub(crate) fn tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, self.key.expose_secret()))
    }

    /// When the certificate ends.
    pub(crate) fn ends(&self) -> SystemTime {
        self.says.not_after
    }

    /// From its begin to its end.
    pub(super) fn life(&self) -> Duration {
        self.says.not_after.duration_since(self.says.not_before).unwrap_or_default()
    }

    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        now >= self.renew_at
    }

    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        now >= self.says.not_after
    }

    pub(super) fn token(&self) -> SecretHash {
        self.token
    }

    pub(super) fn ca(&self) -> Fingerprint {
        self.ca_fingerprint
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.says.node)
    }
}

/// At two thirds of its life, and for each node a little earlier: those that joined together do not come
/// back together.
fn renewal(says: &NodeCertificate, random: u32) -> SystemTime {
    let life = says.not_after.duration_since(says.not_before).unwrap_or_default();
    let earlier = life.mul_f64(f64::from(random) / f64::from(u32::MAX) / 20.0);
    says.not_before + life * 2 / 3 - earlier
}
