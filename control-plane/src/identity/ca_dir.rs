//! The CA of nodes on disk: `ca.pem`, and `ca-key.pem` for the eyes of its owner.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";

/// How long a CA holds that is made here.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long before its end the log says so.
const WARNED: Duration = Duration::from_secs(90 * 86_400);

/// A CA that can sign.
pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    /// The same, for nodes to keep.
    pub(super) pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// Why the folder of a CA can't be used. Nothing of a key is ever told.
#[derive(Debug, Error)]
pub(crate) enum CaDirError {
    #[error("can't use {}: {source}: give a folder this user may write to", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} holds {there} and no {missing}: bring both files from where they came from, or, if no \
         node has joined yet, remove {there}", dir.display()
    )]
    Half { dir: PathBuf, there: &'static str, missing: &'static str },
    #[error("{} {fault}", path.display())]
    Unfit { path: PathBuf, fault: &'static str },
    #[error("the CA can't be made: {0}: check that the system gives random bytes")]
    Making(rcgen::Error),
}

/// How long another control plane that makes the CA just now may take over it.
const ANOTHERS: Duration = Duration::from_secs(2);

/// The CA in a folder, which is made where there is none. Blocks.
pub(super) fn open(dir: &Path) -> Result<Ca, CaDirError> {
    let asked = Instant::now();
    loop {
        match open_now(dir) {
            Err(CaDirError::Half { missing: CERTIFICATE, .. }) if asked.elapsed() < ANOTHERS => {}
            Err(CaDirError::Unusable { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists && asked.elapsed() < ANOTHERS => {}
            opened => return opened,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open_now(dir: &Path) -> Result<Ca, CaDirError> {
    let unusable = |source| CaDirError::Unusable { path: dir.into(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    let half = |there, missing| CaDirError::Half { dir: dir.into(), there, missing };
    match (certificate.exists(), key.exists()) {
        (true, true) => read(&certificate, &key),
        (true, false) => Err(half(CERTIFICATE, KEY)),
        (false, true) => Err(half(KEY, CERTIFICATE)),
        (false, false) => {
            make(&certificate, &key)?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
            tracing::info!(dir = %dir.display(), "made the CA that signs the certificates of nodes");
            read(&certificate, &key)
        }
    }
}

fn make(certificate: &Path, key: &Path) -> Result<(), CaDirError> {
    let pair = KeyPair::generate().map_err(CaDirError::Making)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "FastGate CA of nodes");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(300)).into();
    params.not_after = (now + LIFE).into();
    let made = params.self_signed(&pair).map_err(CaDirError::Making)?;
    // The key first: a certificate without its key would look like one that was lost.
    write_new(key, &pair.serialize_pem(), 0o600)?;
    write_new(certificate, &made.pem(), 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CaDirError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| CaDirError::Unusable { path: path.into(), source })
}

fn read(certificate: &Path, key: &Path) -> Result<Ca, CaDirError> {
    let text = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|source| CaDirError::Unusable { path: path.into(), source })
    };
    let unfit = |path: &Path, fault| CaDirError::Unfit { path: path.into(), fault };
    let of_certificate = |fault| unfit(certificate, fault);
    let pem = text(certificate)?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| of_certificate("holds no certificate in PEM: bring the one that was made"))?;
    let pair = KeyPair::from_pem(&text(key)?)
        .map_err(|_| unfit(key, "holds no key that can sign: bring the one that was made"))?;
    warn_of_mode(key);
    check(&der, &pair).map_err(of_certificate)?;
    let issuer = Issuer::from_ca_cert_der(&der, pair)
        .map_err(|_| of_certificate("is no certificate that can sign others"))?;
    Ok(Ca { certificate: der, pem, issuer })
}

/// What signing with it takes for granted.
fn check(der: &CertificateDer<'_>, pair: &KeyPair) -> Result<(), &'static str> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "holds no certificate that can be read")?;
    if !certificate.is_ca() {
        return Err("is no CA: it may not sign certificates");
    }
    if certificate.public_key().raw != pair.subject_public_key_info() {
        return Err(
            "does not belong to the key in ca-key.pem: bring the two that were made together",
        );
    }
    // A part of the name with several values can't be written into what is signed.
    if certificate.subject().iter_rdn().any(|part| part.iter().count() != 1) {
        return Err("has a subject with several values in one part: use one with a plain name");
    }
    let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(ends);
    match ends.duration_since(SystemTime::now()) {
        Err(_) => return Err("has ended: put a new CA in its place and let all nodes join again"),
        Ok(left) if left < WARNED => {
            let days = left.as_secs() / 86_400;
            tracing::warn!(
                days,
                "the CA of nodes ends soon: all nodes must join a new one by then"
            );
        }
        Ok(_) => {}
    }
    Ok(())
}

fn warn_of_mode(key: &Path) {
    let mode = fs::metadata(key).map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(file = %key.display(), "others may read the key of the CA of nodes: chmod 600");
    }
}
