//! A certificate for servers of tests, and a collector that has one.

use tempfile::TempDir;
use tonic::transport::{Identity as TlsIdentity, ServerTlsConfig};

use super::*;

/// The folder of a certificate of its own for this machine, and its key.
pub(super) struct Certificate(TempDir);

impl Certificate {
    pub(super) fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("made");
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("written");
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        Self(dir)
    }

    pub(super) fn cert(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}

#[tokio::test]
async fn a_collector_is_believed_by_its_certificate() {
    let (own, other) = (Certificate::make(), Certificate::make());
    let [cert, key] = [own.cert(), own.key()].map(|path| fs::read(path).expect("read"));
    let tls = ServerTlsConfig::new().identity(TlsIdentity::from_pem(cert, key));
    let server = Server::builder().tls_config(tls).expect("TLS");
    let kept = Kept::default();
    let (address, _server) = kept.serve_by(server, loopback()).await;
    let to = |scheme: &str, ca: Option<PathBuf>| {
        let url = format!("{scheme}://{address}").parse().expect("a URL");
        let otlp = Some(OtlpSettings { url, ca, headers: None });
        let delivery = Delivery::by(Onward { otlp, ..Onward::default() });
        delivery.give(0, 3);
        delivery
    };
    for (scheme, ca) in [("https", Some(other.cert())), ("https", None), ("http", None)] {
        to(scheme, ca).fails().await;
        assert_eq!(kept.uids(), [""; 0], "{scheme}");
    }
    let delivery = to("https", Some(own.cert()));
    delivery.done().await;
    assert_eq!(kept.uids(), delivery.ids(0..3));
}
