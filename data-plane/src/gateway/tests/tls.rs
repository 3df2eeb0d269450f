//! TLS towards clients: both versions, both protocols, slow ones, wrong ones, and new certificates.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion, crypto::ring, pki_types::ServerName, version,
};
use tempfile::TempDir;

use super::node::{Client, Node, Upstream, get, open_node};
use crate::{Settings, TlsSettings, network::Network};

/// A certificate for `localhost` in files of its own, and a client that trusts it.
struct Certificate {
    dir: TempDir,
    roots: Arc<RootCertStore>,
}

type TlsSocket = StreamOwned<ClientConnection, TcpStream>;

impl Certificate {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut new = Self { dir, roots: Arc::new(RootCertStore::empty()) };
        new.renew();
        new
    }

    /// Another certificate in the same files. Clients made from now on trust no other.
    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("sound");
        self.roots = Arc::new(roots);
        let TlsSettings { cert, key, .. } = self.settings();
        fs::write(cert, made.cert.pem()).expect("written");
        fs::write(key, made.signing_key.serialize_pem()).expect("written");
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cert: self.dir.path().join("cert.pem"),
            key: self.dir.path().join("key.pem"),
        }
    }

    /// A node that sends everything to an upstream.
    fn node(&self, upstream: &Upstream, change: impl FnOnce(&mut Settings)) -> Node {
        open_node(upstream, |settings| {
            settings.tls = Some(self.settings());
            change(settings);
        })
    }

    fn config(&self, version: &'static SupportedProtocolVersion, alpn: &[&str]) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A client that speaks TLS 1.3 and names HTTP/1.1.
    fn connect(&self, node: &Node) -> Client<TlsSocket> {
        Client::over(connect(node, self.config(&version::TLS13, &["http/1.1"])))
    }

    /// The same with so little room that the node's socket is full after a few kilobytes: what it
    /// does not take stays in the session, encrypted.
    fn connect_narrow(&self, node: &Node) -> Client<TlsSocket> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_tcp_mss(536).expect("set");
        socket.set_recv_buffer_size(4096).expect("set");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket.connect(&node.tls.expect("TLS").into()).expect("connects");
        let config = self.config(&version::TLS13, &["http/1.1"]);
        Client::over(connect_over(socket.into(), Arc::new(config)))
    }
}

fn tcp(node: &Node) -> TcpStream {
    let tcp = TcpStream::connect(node.tls.expect("TLS")).expect("a listening node");
    tcp.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    tcp
}

fn connect(node: &Node, config: ClientConfig) -> TlsSocket {
    connect_over(tcp(node), Arc::new(config))
}

fn connect_over(tcp: TcpStream, config: Arc<ClientConfig>) -> TlsSocket {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("a client"), tcp)
}

fn metric(node: &Node, name: &str) -> String {
    let metrics = node.ops("/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).to_owned()
}

/// Whether the stream ends now, and as TLS says it should.
fn ends_with_goodbye(client: &mut Client<TlsSocket>) -> bool {
    match client.stream().read(&mut [0]) {
        Ok(length) => length == 0,
        Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(fault) => panic!("does not end: {fault}"),
    }
}

#[test]
fn http1_is_spoken_over_both_versions_and_kept_alive() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    for version in [&version::TLS12, &version::TLS13] {
        for alpn in [&[][..], &["http/1.1"], &["http/1.1", "h2c-is-no-name-of-it"]] {
            let config = certificate.config(version, alpn);
            let mut client = Client::over(connect(&node, config));
            for _ in 0..50 {
                let answer = client.send(&get("/x?y", ""));
                assert_eq!((answer.status, &*answer.body), (200, "hello"));
            }
            assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
            let session = &client.stream().get_ref().conn;
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.alpn_protocol().is_some(), !alpn.is_empty());
        }
    }
    assert_eq!(node.send(&get("/", "")).status, 200);
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("http"));
    assert_eq!(upstream.connections(), 1);
    assert_eq!(metric(&node, "fastgate_tls_handshake_failures_total"), "0");
}

#[test]
fn a_trusted_proxy_says_how_its_client_came() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    for (trusted, forwarded) in [("127.0.0.0/8", "http"), ("10.0.0.0/8", "https")] {
        let node = certificate.node(&upstream, |settings| {
            settings.trusted_proxies = vec![Network::parse(trusted).expect("a network")];
        });
        let mut client = certificate.connect(&node);
        assert_eq!(client.send(&get("/", "x-forwarded-proto: http")).status, 200);
        assert_eq!(upstream.last().headers("x-forwarded-proto"), [forwarded]);
    }
}

#[test]
fn http2_is_spoken_where_client_and_node_agree_on_it() {
    let upstream = Upstream::scripted(|request, stream| {
        let size = request.body.len();
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        stream.write_all(request.body.as_bytes()).is_ok()
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let body = Bytes::from("0123456789abcdef".repeat(100_000));
    for version in [&version::TLS12, &version::TLS13] {
        let config = Arc::new(certificate.config(version, &["h2", "http/1.1"]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let tcp = tokio::net::TcpStream::connect(node.tls.expect("TLS")).await;
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = tokio_rustls::TlsConnector::from(config);
            let tls = connector.connect(name, tcp.expect("connects")).await.expect("a handshake");
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
                    .await
                    .expect("HTTP/2");
            tokio::spawn(connection);
            for body in [Bytes::from_static(b"hi"), body.clone()] {
                let request = http::Request::post("https://localhost/x")
                    .body(Full::new(body.clone()))
                    .expect("a request");
                let answer = sender.send_request(request).await.expect("an answer");
                assert_eq!(answer.status(), 200);
                let echoed = answer.into_body().collect().await.expect("a body").to_bytes();
                assert!(echoed == body, "{} bytes", echoed.len());
            }
        });
        assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    }
}

#[test]
fn the_protocol_is_told_by_its_first_bytes_where_nothing_was_agreed_on() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let mut client = Client::over(connect(&node, certificate.config(&version::TLS13, &[])));
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0");
    let mut frame = [0; 9];
    client.stream().read_exact(&mut frame).expect("settings");
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Upstream::scripted(|request, stream| {
        let size = request.body.len();
        drop(write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n"));
        drop(stream.write_all(request.body.as_bytes()));
        stream.write_all(b"\r\n0\r\n\r\n").is_ok()
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let body: String = (0..250_000).map(|n| format!("{n:07},")).collect();
    let size = body.len();
    for version in [&version::TLS12, &version::TLS13] {
        let config = certificate.config(version, &["http/1.1"]);
        let mut client = Client::over(connect(&node, config));
        for _ in 0..2 {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n");
            client.write(&head);
            client.write(&body);
            let answer = client.read(false);
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "{} bytes of {size}", answer.body.len());
        }
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_an_answer() {
    let upstream = Upstream::scripted(|request, stream| {
        let size = request.first.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap_or(0);
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        stream.write_all(&vec![b'x'; size]).is_ok()
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let mut client = certificate.connect_narrow(&node);
    for size in [5, 60_000, 100_000, 200_000] {
        client.write(&get(&format!("/{size}"), ""));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(client.read(false).body.len(), size);
    }
}

#[test]
fn nothing_is_held_back_while_an_upstream_pauses() {
    const SIZE: usize = 200_000;
    const PATIENCE: Duration = Duration::from_secs(20);
    let (go_on, paused) = mpsc::channel::<()>();
    let paused = std::sync::Mutex::new(paused);
    let upstream = Upstream::scripted(move |_, stream| {
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", SIZE + 1));
        drop(stream.write_all(&vec![b'x'; SIZE]));
        assert_eq!(paused.lock().expect("no panic").recv_timeout(PATIENCE), Ok(()));
        stream.write_all(b"y").is_ok()
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let mut client = certificate.connect_narrow(&node);
    client.write(&get("/", ""));
    thread::sleep(Duration::from_millis(200));
    let mut seen = 0;
    let mut buffer = vec![0; 1 << 20];
    while seen < SIZE {
        let read = client.stream().read(&mut buffer).expect("all the upstream sent");
        seen += buffer[..read].iter().filter(|byte| **byte == b'x').count();
    }
    go_on.send(()).expect("the upstream waits");
    let read = client.stream().read(&mut buffer).expect("the rest");
    assert_eq!(&buffer[..read], b"y");
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_without_goodbye() {
    let upstream = Upstream::scripted(|_, stream| {
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n"));
        stream.write_all(&vec![b'x'; 100_000_000]).is_ok()
    });
    let certificate = Certificate::new();
    let node =
        certificate.node(&upstream, |settings| settings.body_timeout = Duration::from_millis(300));
    let mut client = certificate.connect(&node);
    client.write(&get("/", ""));
    // Recorded when it was cut off.
    assert!(node.event().response_size < 50_000_000);
    let answer = client.read(false);
    assert!((1..50_000_000).contains(&answer.body.len()), "{}", answer.body.len());
    assert!(client.stream().read(&mut [0]).is_err());
}

#[test]
fn slow_handshakes_are_ended_and_counted() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate
        .node(&upstream, |settings| settings.header_timeout = Duration::from_millis(300));
    // A record that says it is longer.
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut tcp = tcp(&node);
        tcp.write_all(sent).expect("sent");
        let began = Instant::now();
        assert!(matches!(tcp.read(&mut [0]), Ok(0) | Err(_)), "{sent:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{sent:?}: {:?}", began.elapsed());
    }
    assert_eq!(metric(&node, "fastgate_tls_handshake_failures_total"), "2");
    // Looks whether the port is open.
    drop(tcp(&node));
    let mut client = certificate.connect(&node);
    assert_eq!(client.send(&get("/", "")).status, 200);
    assert_eq!(metric(&node, "fastgate_tls_handshake_failures_total"), "2");
    // One that has shaken hands has the time all have between requests.
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(client.send(&get("/", "")).status, 200);
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let config = Arc::new(certificate.config(&version::TLS13, &["http/1.1"]));
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(config, name).expect("a client");
    let mut tcp = tcp(&node);
    tcp.set_nodelay(true).expect("set");
    while session.is_handshaking() || session.wants_write() {
        let mut flight = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut flight).expect("written");
        }
        for byte in flight {
            tcp.write_all(&[byte]).expect("sent");
        }
        if session.is_handshaking() {
            session.read_tls(&mut tcp).expect("an answer");
            session.process_new_packets().expect("sound");
        }
    }
    let mut client = Client::over(StreamOwned::new(session, tcp));
    assert_eq!(client.send(&get("/", "")).status, 200);
}

#[test]
fn what_is_no_tls_is_told_so_and_ends() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    // More than is read at once: a close at once would be a reset.
    for body in ["".to_owned(), "x".repeat(300_000)] {
        let mut client = tcp(&node);
        let size = body.len();
        let sent = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n{body}");
        client.write_all(sent.as_bytes()).expect("sent");
        let mut said = Vec::new();
        client.read_to_end(&mut said).expect("a clean end");
        // An alert of TLS (RFC 8446 section 6).
        assert_eq!(said.first(), Some(&21), "{said:?}");
    }
    assert_eq!(metric(&node, "fastgate_tls_handshake_failures_total"), "2");
    let mut stranger = Certificate::new().connect(&node);
    stranger.write(&get("/", ""));
    assert!(stranger.stream().read(&mut [0]).is_err(), "an unknown issuer");
    let mut other = Client::over(connect(&node, certificate.config(&version::TLS13, &["spdy/3"])));
    other.write(&get("/", ""));
    assert!(other.stream().read(&mut [0]).is_err(), "no protocol in common");
    assert!(upstream.received().is_empty());
}

#[test]
fn orderly_ends_are_told_from_others() {
    let upstream = Upstream::scripted(|request, stream| {
        // To HTTP/1.0 its end is that of the connection, which is promised to be longer.
        let cut = request.first.contains("/cut");
        let size = if cut { "content-length: 9\r\n" } else { "" };
        drop(write!(stream, "HTTP/1.1 200 OK\r\n{size}\r\nhello"));
        false
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |settings| {
        settings.keep_alive_timeout = Duration::from_millis(1000);
    });
    for (request, body) in [
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "hello"),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "hello"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "hello"),
        ("nonsense\r\n\r\n", ""),
    ] {
        let mut client = certificate.connect(&node);
        client.write(request);
        let answer = client.read(false);
        assert!(answer.body.starts_with(body) && answer.status > 0, "{request}: {answer:?}");
        assert!(ends_with_goodbye(&mut client), "{request}");
    }
    let mut silent = certificate.connect(&node);
    silent.stream().get_mut().flush().expect("a handshake");
    assert!(ends_with_goodbye(&mut silent), "idle for too long");
    let mut cut = certificate.connect(&node);
    assert_eq!(cut.send("GET /cut HTTP/1.0\r\nhost: a\r\n\r\n").body, "hello");
    assert!(!ends_with_goodbye(&mut cut), "the answer broke off");
    let mut idle = certificate.connect(&node);
    assert_eq!(idle.send(&get("/", "")).status, 200);
    node.begin_stop();
    assert!(ends_with_goodbye(&mut idle), "the node stops");
}

#[test]
fn sessions_are_resumed() {
    let upstream = Upstream::hello();
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    for version in [&version::TLS12, &version::TLS13] {
        let config = Arc::new(certificate.config(version, &["http/1.1"]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut client = Client::over(connect_over(tcp(&node), config.clone()));
            assert_eq!(client.send(&get("/", "")).status, 200);
            let session = &client.stream().get_ref().conn;
            assert_eq!(session.handshake_kind(), Some(kind), "{:?}", version.version);
        }
    }
}

/// Notes the records that come from the node (RFC 8446 section 5.1).
struct Records {
    tcp: TcpStream,
    seen: Vec<u8>,
}

impl Records {
    /// The lengths of those that came since the last call.
    fn lengths(&mut self) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut rest = &self.seen[..];
        while let [_, _, _, high, low, behind @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            lengths.push(length);
            rest = &behind[length..];
        }
        self.seen.clear();
        lengths
    }
}

impl Read for Records {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.tcp.read(buf)?;
        self.seen.extend_from_slice(&buf[..read]);
        Ok(read)
    }
}

impl Write for Records {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tcp.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_answer_is_as_few_records_as_can_be() {
    let upstream = Upstream::scripted(|request, stream| {
        let size = if request.first.contains("/large") { 1_000_000 } else { 5 };
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        stream.write_all(&vec![b'x'; size]).is_ok()
    });
    let certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let config = Arc::new(certificate.config(&version::TLS13, &["http/1.1"]));
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(config, name).expect("a client");
    let records = Records { tcp: tcp(&node), seen: Vec::new() };
    let mut client = Client::over(StreamOwned::new(session, records));
    assert_eq!(client.send(&get("/", "")).status, 200);
    client.stream().get_mut().sock.lengths();
    assert_eq!(client.send(&get("/", "")).status, 200);
    assert_eq!(client.stream().get_mut().sock.lengths().len(), 1, "head and body together");
    assert_eq!(client.send(&get("/large", "")).body.len(), 1_000_000);
    let lengths = client.stream().get_mut().sock.lengths();
    let full = lengths.iter().filter(|length| **length > 16 * 1024).count();
    assert!(full * 4 > lengths.len() * 2, "{lengths:?}");
    assert_eq!(client.stream().get_ref().conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

/// Some clients (curl 7.88 is one) lose an answer that comes in one record with the word that its
/// request need not be sent to the end.
#[test]
fn what_follows_an_early_answer_over_http2_is_a_record_of_its_own() {
    const RESET: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let certificate = Certificate::new();
    let node = certificate.node(&Upstream::hello(), |settings| settings.max_body_size = Some(10));
    let config = Arc::new(certificate.config(&version::TLS13, &["h2"]));
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(config, name).expect("a client");
    let records = Records { tcp: tcp(&node), seen: Vec::new() };
    let mut client = StreamOwned::new(session, records);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let block = b"\x83\x87\x84\x01\x03a.b\x0f\x0d\x06100000";
    let head = [0, 0, u8::try_from(block.len()).expect("short"), 1, 4, 0, 0, 0, 1];
    let request = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &head, block].concat();
    client.write_all(&request).expect("written");
    let (mut seen, mut piece) = (Vec::new(), [0; 1000]);
    while !seen.ends_with(RESET) {
        let read = client.read(&mut piece).expect("all of it");
        seen.extend_from_slice(&piece[..read]);
    }
    // A byte for its type and sixteen that seal it.
    assert_eq!(client.sock.lengths().last(), Some(&(RESET.len() + 17)));
}

/// Connects anew until the certificate is one that the client trusts, or is not.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_certificate_is_taken_into_use_without_a_restart() {
    let upstream = Upstream::hello();
    let mut certificate = Certificate::new();
    let node = certificate.node(&upstream, |_| {});
    let mut before = certificate.connect(&node);
    assert_eq!(before.send(&get("/", "")).status, 200);
    let is_served = |certificate: &Certificate| {
        let mut client = certificate.connect(&node);
        client.write(&get("/", ""));
        client.read(false).status == 200
    };
    certificate.renew();
    eventually("the new one is in use", || is_served(&certificate));
    assert_eq!(before.send(&get("/", "")).status, 200, "an open connection goes on");

    // A key of another certificate.
    let key = certificate.settings().key;
    let good = fs::read(&key).expect("the key");
    fs::copy(Certificate::new().settings().key, &key).expect("copied");
    thread::sleep(Duration::from_secs(5));
    assert!(is_served(&certificate), "the last good one stays");
    fs::write(&key, good).expect("written");
    certificate.renew();
    eventually("the next good one is in use", || is_served(&certificate));
}
