//! What is signed, and what is believed of it.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, SystemTime},
};

use fastgate::{
    identity::{Fingerprint, NodeCertificate, NodeName, Serial},
    model::Id,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tempfile::TempDir;
use tonic::Code;

use super::{
    Peer,
    authority::{Authority, SigningError},
    ca_dir::{self, CaDirError},
    revocations::Revocations,
};

const LIFE: Duration = Duration::from_secs(3600);

fn authority() -> (Authority, TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let ca = ca_dir::open(&dir.path().join("ca")).expect("a CA");
    (Authority::new(ca, LIFE).expect("a CA"), dir)
}

fn node(environment: &str, node_id: &str) -> NodeName {
    let id = |text| Id::parse(text).expect("an id");
    NodeName { environment: id(environment), node_id: id(node_id) }
}

fn request(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.serialize_request(key).expect("a request").der().to_vec()
}

fn told(opened: Result<ca_dir::Ca, CaDirError>) -> String {
    opened.err().expect("refused").to_string()
}

#[test]
fn a_ca_is_made_once_and_its_key_is_for_its_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("deep/ca");
    let first = Authority::new(ca_dir::open(&dir).expect("made"), LIFE).expect("a CA");
    let again = Authority::new(ca_dir::open(&dir).expect("read"), LIFE).expect("a CA");
    assert_eq!(first.fingerprint(), again.fingerprint());
    let mode =
        |file: &str| fs::metadata(dir.join(file)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode("ca-key.pem"), 0o600);
    assert_eq!(mode("ca.pem") & 0o022, 0);
}

#[test]
fn a_ca_that_is_not_whole_is_refused_with_the_mend() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), authority().1);
    drop(ca_dir::open(one.path()).expect("made"));
    let (certificate, key) = (one.path().join("ca.pem"), one.path().join("ca-key.pem"));
    let (sound, secret) = (fs::read(&certificate).expect("reads"), fs::read(&key).expect("reads"));
    fs::copy(other.path().join("ca/ca-key.pem"), &key).expect("copies");
    assert!(told(ca_dir::open(one.path())).contains("does not belong to the key in ca-key.pem"));
    fs::write(&key, "no key").expect("writes");
    assert!(told(ca_dir::open(one.path())).contains("ca-key.pem holds no key"));
    fs::remove_file(&key).expect("removes");
    assert!(told(ca_dir::open(one.path())).contains("holds ca.pem and no ca-key.pem"));
    fs::write(&key, &secret).expect("writes");
    fs::write(&certificate, &sound[..sound.len() / 2]).expect("writes");
    assert!(told(ca_dir::open(one.path())).contains("holds no certificate in PEM"));
    let own = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::default().self_signed(&own).expect("signed");
    fs::write(&certificate, leaf.pem()).expect("writes");
    fs::write(&key, own.serialize_pem()).expect("writes");
    assert!(told(ca_dir::open(one.path())).contains("is no CA"));
    fs::remove_file(&certificate).expect("removes");
    assert!(told(ca_dir::open(one.path())).contains("holds ca-key.pem and no ca.pem"));
}

#[test]
fn control_planes_that_start_together_make_one_ca() {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = std::thread::scope(|scope| {
        let one = || scope.spawn(|| ca_dir::open(dir.path()).expect("a CA").pem);
        let threads: Vec<_> = (0..8).map(|_| one()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(opened.windows(2).all(|two| two[0] == two[1]), "{opened:?}");
}

#[test]
fn a_certificate_says_what_the_authority_says_whatever_is_asked() {
    let (authority, _dir) = authority();
    let mut asked = CertificateParams::new(vec!["cp.internal".into()]).expect("names");
    let other = node("prod", "other").to_uri();
    asked.subject_alt_names.push(SanType::URI(other.try_into().expect("a URI")));
    let csr = request(&asked, &KeyPair::generate().expect("a key"));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (pem, issued) = authority.sign_node(&csr, node("prod", "n1"), now).expect("signs");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let read = NodeCertificate::read(&der).expect("of a node");
    assert_eq!((&read.node, read.serial), (&node("prod", "n1"), issued.serial));
    assert_eq!((read.not_after, issued.expires_at), (now + LIFE, now + LIFE));
    assert_eq!(read.not_before, now - Duration::from_secs(300));
    let (_, next) = authority.sign_node(&csr, node("prod", "n1"), now).expect("signs");
    assert_ne!(next.serial, issued.serial);
}

#[test]
fn a_request_that_proves_no_key_is_refused() {
    let (authority, _dir) = authority();
    let params = CertificateParams::default();
    let sound = request(&params, &KeyPair::generate().expect("a key"));
    let sign = |csr: &[u8]| authority.sign_node(csr, node("prod", "n1"), SystemTime::now());
    assert!(sign(&sound).is_ok());
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    assert!(matches!(sign(&request(&params, &ed25519)), Err(SigningError::Key)));
    let longer = [&sound[..], b"x"].concat();
    for junk in [&b""[..], b"junk", &sound[..sound.len() - 1], &longer] {
        assert!(matches!(sign(junk), Err(SigningError::Request)), "{}", junk.len());
    }
    // Whichever bit is another one: never a panic, and never a certificate for a key nobody proved.
    let key = |pem: &str| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        Fingerprint::of_certificate(&der).expect("a certificate")
    };
    let (own, _) = sign(&sound).expect("signs");
    for at in 0..sound.len() {
        for bit in 0..8 {
            let mut bad = sound.clone();
            bad[at] ^= 1 << bit;
            if let Ok((pem, _)) = sign(&bad) {
                assert_eq!(key(&pem), key(&own), "byte {at}, bit {bit}");
            }
        }
    }
}

fn certificate(environment: &str, node_id: &str) -> NodeCertificate {
    let now = SystemTime::now();
    NodeCertificate {
        node: node(environment, node_id),
        serial: Serial::random().expect("random bytes"),
        not_before: now,
        not_after: now + LIFE,
    }
}

#[test]
fn a_node_speaks_for_itself_alone() {
    let own = Peer::node(certificate("prod", "n1"), Revocations::none());
    for (peer, environment, node_id, code) in [
        (&own, "prod", Some("n1"), None),
        (&own, "prod", None, None),
        (&own, "prod", Some("n2"), Some(Code::PermissionDenied)),
        (&own, "staging", Some("n1"), Some(Code::PermissionDenied)),
        (&own, "staging", None, Some(Code::PermissionDenied)),
        (&Peer::Local, "staging", Some("n2"), None),
        (&Peer::Stranger, "prod", Some("n1"), Some(Code::Unauthenticated)),
        (&Peer::Stranger, "prod", None, Some(Code::Unauthenticated)),
    ] {
        let id = Id::parse(environment).expect("an id");
        let refused = peer.check(&id, node_id).err();
        assert_eq!(refused.as_ref().map(tonic::Status::code), code, "{environment} {node_id:?}");
        if code == Some(Code::PermissionDenied) {
            let told = refused.expect("refused").message().to_owned();
            assert!(told.contains("node 'n1' of environment 'prod'"), "{told}");
            assert!(told.contains(&format!("environment '{environment}'")), "{told}");
        }
    }
    // Where nobody said who calls, nobody is known.
    let id = Id::parse("prod").expect("an id");
    assert!(Peer::of(&http::Extensions::new()).check(&id, None).is_err());
}

#[tokio::test]
async fn a_node_is_shut_out_when_it_is_revoked_and_when_its_certificate_ends() {
    let soon = Duration::from_millis(50);
    let is_out = async |peer: &Peer| tokio::time::timeout(soon, peer.shut_out()).await.is_ok();
    assert!(!is_out(&Peer::Local).await && !is_out(&Peer::Stranger).await);
    let (revocations, sound) = (Revocations::none(), certificate("prod", "n1"));
    let ended = NodeCertificate { not_after: SystemTime::now(), ..sound.clone() };
    assert!(is_out(&Peer::node(ended, revocations.clone())).await);
    let peer = Peer::node(sound.clone(), revocations.clone());
    assert!(!is_out(&peer).await);
    revocations.set(HashSet::from([certificate("prod", "n1").serial]));
    assert!(!is_out(&peer).await, "another one");
    let waiting = tokio::spawn(peer.shut_out());
    revocations.set(HashSet::from([sound.serial]));
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("in time").expect("waits");
    assert!(!is_out(&peer).await, "a connection that begins now is told why");
}
