//! A real NATS with TLS, a user and a limit. What kills of it do is seen in the end-to-end tests.

use std::process::{Child, Command, Stdio};

use async_nats::jetstream::{self, stream};
use tempfile::TempDir;

use super::{tls::Certificate, *};

/// The largest message it takes.
const MAX_PAYLOAD: usize = 4096;

/// A private one, gone when dropped.
struct Nats {
    process: Child,
    certificate: Certificate,
    port: u16,
    dir: TempDir,
}

impl Nats {
    async fn start() -> Self {
        let (dir, certificate) = (tempfile::tempdir().expect("a folder"), Certificate::make());
        let settings = format!(
            "listen: 127.0.0.1:-1\n\
             ports_file_dir: {folder:?}\n\
             max_payload: {MAX_PAYLOAD}\n\
             jetstream {{ store_dir: {folder:?} }}\n\
             tls {{ cert_file: {cert:?}, key_file: {key:?} }}\n\
             authorization {{ user: fastgate, password: choose-one }}\n",
            folder = dir.path(),
            cert = certificate.cert(),
            key = certificate.key(),
        );
        fs::write(dir.path().join("nats.conf"), settings).expect("written");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nats-server", "-c"]);
        command.arg(dir.path().join("nats.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("setpriv is needed: apt-get install util-linux");
        let mut nats = Self { process, certificate, port: 0, dir };
        let began = Instant::now();
        while nats.port == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "apt-get install nats-server");
            sleep(Duration::from_millis(5)).await;
            nats.port = nats.find_port().unwrap_or(0);
        }
        nats
    }

    /// It writes where it listens into a file.
    fn find_port(&self) -> Option<u16> {
        let file = self.dir.path().join(format!("nats-server_{}.ports", self.process.id()));
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    /// Ready to take events from a node that says this of itself.
    fn delivery(&self, credentials: &str, ca: Option<&Certificate>) -> Delivery {
        let file = self.dir.path().join("credentials");
        fs::write(&file, credentials).expect("written");
        Delivery::by(Onward {
            nats: Some(NatsSettings {
                servers: vec![format!("tls://127.0.0.1:{}", self.port).parse().expect("a URL")],
                subject: "audit.n1".into(),
                credentials: Some(file),
                ca: ca.map(Certificate::cert),
            }),
            ..Onward::default()
        })
    }

    async fn context(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::new()
            .user_and_password("fastgate".into(), "choose-one".into())
            .add_root_certificates(self.certificate.cert());
        let client = options.connect(format!("tls://127.0.0.1:{}", self.port)).await;
        jetstream::new(client.expect("connects"))
    }

    async fn make_stream(&self) {
        let config = stream::Config {
            name: "audit".into(),
            subjects: vec!["audit.*".into()],
            ..stream::Config::default()
        };
        self.context().await.create_stream(config).await.expect("made");
    }

    /// The ids of all messages in the stream.
    async fn ids(&self) -> Vec<String> {
        let mut stream = self.context().await.get_stream("audit").await.expect("a stream");
        let last = stream.info().await.expect("its state").state.last_sequence;
        let mut ids = Vec::new();
        for number in 1..=last {
            let message = stream.get_raw_message(number).await.expect("a message");
            ids.push(message.headers.get("Nats-Msg-Id").expect("an id").to_string());
        }
        ids
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn nats_is_believed_by_its_certificate_and_asks_for_a_password() {
    let nats = Nats::start().await;
    nats.make_stream().await;
    for (credentials, ca) in [
        ("fastgate:choose-one", Some(&Certificate::make())),
        ("fastgate:choose-one", None),
        ("fastgate:another", Some(&nats.certificate)),
        ("choose-one", Some(&nats.certificate)),
    ] {
        let delivery = nats.delivery(credentials, ca);
        delivery.give(0, 3);
        delivery.fails().await;
    }
    assert_eq!(nats.ids().await, [""; 0]);
    let delivery = nats.delivery("fastgate:choose-one", Some(&nats.certificate));
    delivery.give(0, 3);
    delivery.done().await;
    assert_eq!(nats.ids().await, delivery.ids(0..3));
}

#[tokio::test]
async fn events_wait_until_a_stream_takes_their_subject() {
    let nats = Nats::start().await;
    let delivery = nats.delivery("fastgate:choose-one", Some(&nats.certificate));
    // More than are under way at once, in two batches.
    delivery.give(0, 600);
    delivery.give(600, 5);
    delivery.fails().await;
    nats.make_stream().await;
    delivery.done().await;
    assert_eq!(delivery.counts(), (605, 0, 605));
    assert_eq!(nats.ids().await, delivery.ids(0..605));
}

#[tokio::test]
async fn a_message_too_large_for_nats_is_counted_and_the_others_go_on() {
    let nats = Nats::start().await;
    nats.make_stream().await;
    let delivery = nats.delivery("fastgate:choose-one", Some(&nats.certificate));
    let events = (0..5).map(log_event).map(|event| match &*event.request_id {
        "request-2" => LogEvent { user_agent: "x".repeat(MAX_PAYLOAD), ..event },
        _ => event,
    });
    delivery.push(batch_of(delivery.identity.boot_id, 0, events.collect()));
    delivery.done().await;
    assert_eq!(delivery.counts(), (4, 1, 5));
    let ids = delivery.ids(0..5);
    assert_eq!(nats.ids().await, [&ids[..2], &ids[3..]].concat());
}
