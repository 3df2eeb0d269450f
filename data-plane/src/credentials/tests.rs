//! What is taken for credentials, and whom a node trusts at first contact.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, SystemTime},
};

use fastgate::{
    identity::{Fingerprint, NodeName, Serial},
    model::Id,
    secret::{Kind, Secret, SecretHash},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    client::danger::ServerCertVerifier as _,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Credentials, held::Unfit, verifier::ByFingerprint};

pub(super) const LIFE: Duration = Duration::from_secs(3000);

pub(super) struct Ca {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(self.certificate.der()).expect("a certificate")
    }

    fn server(&self, name: &str, ends: SystemTime) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = ends.into();
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &self.issuer).expect("signed").into()
    }

    /// A node's certificate of a life that began now, and its key.
    fn node(&self, node: &NodeName) -> (String, String) {
        let mut params = CertificateParams::default();
        let serial = Serial::random().expect("random bytes");
        params.serial_number = Some(serial.as_bytes().to_vec().into());
        params.subject_alt_names = vec![SanType::URI(node.to_uri().try_into().expect("a URI"))];
        params.not_before = SystemTime::now().into();
        params.not_after = (SystemTime::now() + LIFE).into();
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        (signed.pem(), key.serialize_pem())
    }
}

pub(super) fn node(environment: &str, node_id: &str) -> NodeName {
    let id = |text| Id::parse(text).expect("an id");
    NodeName { environment: id(environment), node_id: id(node_id) }
}

fn token() -> SecretHash {
    Secret::generate(Kind::JoinToken).expect("random bytes").hash()
}

pub(super) fn held(ca: &Ca, name: &NodeName) -> Credentials {
    let (certificate, key) = ca.node(name);
    Credentials::new(key.into(), (certificate, ca.certificate.pem()), token(), name).expect("sound")
}

#[test]
fn credentials_read_back_and_are_for_their_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("identity.pem");
    let (ca, own) = (Ca::new(), node("prod", "n1"));
    assert!(Credentials::load(&path, &own).expect("nothing").is_none());
    let mut saved = held(&ca, &own);
    // A second time what was read is written.
    for _ in 0..2 {
        saved.save(&path).expect("saves");
        let read = Credentials::load(&path, &own).expect("sound").expect("is there");
        assert_eq!(
            (read.ends(), read.token(), read.ca()),
            (saved.ends(), saved.token(), ca.fingerprint())
        );
        saved = read;
    }
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(format!("{saved:?}"), "Credentials(node 'n1' of environment 'prod')");
    let other = Credentials::load(&path, &node("staging", "n1")).err();
    assert!(matches!(other, Some(Unfit::OtherNode(name)) if name == own));
}

#[test]
fn what_is_damaged_or_mixed_up_is_not_used() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("identity.pem");
    let (ca, own) = (Ca::new(), node("prod", "n1"));
    held(&ca, &own).save(&path).expect("saves");
    let sound = fs::read(&path).expect("reads");
    for cut in 0..sound.len() - 2 {
        fs::write(&path, &sound[..cut]).expect("writes");
        assert!(Credentials::load(&path, &own).is_err(), "cut at {cut}");
    }
    let ((certificate, _), (_, key)) = (ca.node(&own), ca.node(&own));
    let pair = (certificate, ca.certificate.pem());
    let mixed = Credentials::new(key.into(), pair, token(), &own);
    assert!(matches!(mixed, Err(Unfit::OtherKey)));
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
    let (ca, own) = (Ca::new(), node("prod", "n1"));
    for _ in 0..20 {
        let held = held(&ca, &own);
        // Behind it: it ends at a full second.
        let now = SystemTime::now();
        assert!(!held.is_due(now + LIFE * 60 / 100) && held.is_due(now + LIFE * 67 / 100));
        assert!(!held.has_ended(now + LIFE * 99 / 100) && held.has_ended(now + LIFE));
    }
}

#[test]
fn a_control_plane_is_trusted_by_the_ca_a_token_names() {
    let (ca, other) = (Ca::new(), Ca::new());
    let in_time = SystemTime::now() + LIFE;
    let ended = SystemTime::now() - LIFE;
    let shown = |ca: &Ca| ca.certificate.der().clone();
    for (what, own, along, is_trusted) in [
        ("its own", ca.server("cp", in_time), vec![shown(&ca)], true),
        ("among others", ca.server("cp", in_time), vec![shown(&other), shown(&ca)], true),
        ("without the CA", ca.server("cp", in_time), vec![], false),
        ("another CA", other.server("cp", in_time), vec![shown(&other)], false),
        ("the CA beside a stranger", other.server("cp", in_time), vec![shown(&ca)], false),
        ("another name", ca.server("cq", in_time), vec![shown(&ca)], false),
        ("ended", ca.server("cp", ended), vec![shown(&ca)], false),
    ] {
        let name = ServerName::try_from("cp").expect("a name");
        let verifier = ByFingerprint::new(ca.fingerprint());
        let found = verifier.verify_server_cert(&own, &along, &name, &[], UnixTime::now());
        assert_eq!(found.is_ok(), is_trusted, "{what}: {found:?}");
    }
}
