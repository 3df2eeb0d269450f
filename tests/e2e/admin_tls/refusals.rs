//! Who is not trusted, who is not served, and what is told.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{ControlPlane, told};
use crate::support::{Authority, program, run};

const FAILURES: &str = "fastgate_tls_handshake_failures_total{port=\"admin\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_talks_to_whom_he_does_not_trust_or_in_plain_text() {
    let plane = ControlPlane::start("2").await;
    let other = Authority::new(&plane.dir.path().join("other"));
    let out = plane.try_curl(&format!("{}/health", plane.url("localhost")), &other.ca());
    assert_eq!(out.status.code(), Some(60), "{}", told(&out));
    assert_eq!(plane.metric(FAILURES), 1.0);
    let plain = plane.url("localhost").replace("https", "http");
    let out = plane.try_curl(&format!("{plain}/health"), &other.ca());
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("https://"), "{said}");
    assert_eq!(plane.metric(FAILURES), 2.0);

    let node_port = format!("https://127.0.0.1:{}", plane.node_port);
    let elsewhere = plane.url("10.0.0.5").replace("https", "http");
    let ca = plane.authority.ca();
    for (addr, ca, expected) in [
        (plane.url("localhost"), other.ca(), &["signed by no CA", "--ca-file"][..]),
        (plane.url("127.0.0.2"), ca.clone(), &["is for other names", "call it by a name"]),
        (node_port, ca.clone(), &["does not speak TLS", "http://"]),
        (elsewhere, ca.clone(), &["is plain text to another machine", "https://10.0.0.5"]),
        (plane.url("localhost"), "nowhere.pem".into(), &["--ca-file: can't read nowhere.pem"]),
        (plane.url("localhost"), plane.authority.key(), &["--ca-file", "holds no certificate"]),
        (plain, ca.clone(), &["https://"]),
    ] {
        let mut command = plane.fgctl("localhost", &["keys", "list", "--ca-file"]);
        let out = run(command.arg(&ca).env("FGCTL_ADDR", &addr));
        let said = told(&out);
        println!("{}", said.trim());
        assert_eq!(out.status.code(), Some(1), "{addr}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{addr} {expected:?}: {said}");
        assert!(!said.contains("fga_"), "{said}");
    }
    // Nothing is named: what the system trusts counts, and this CA is not among it.
    let out = run(&mut plane.fgctl("localhost", &["keys", "list"]));
    let said = told(&out);
    assert!(said.contains("signed by no CA") && said.contains("FGCTL_CA_FILE"), "{said}");
    let out = run(&mut plane.fgctl("localhost", &["doctor"]));
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("can't be trusted"), "{out:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_ended_is_told_of_on_both_sides() {
    let plane = ControlPlane::start("0").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let out = run(&mut plane.trusting_fgctl(&["keys", "list"]));
    let said = told(&out);
    assert!(said.contains("has ended") && said.contains("--admin-tls-cert"), "{said}");
    let log = plane.process.log();
    assert!(log.contains("has ended") || log.contains("ends soon"), "{log}");
    plane.authority.renew("2");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let out = run(&mut plane.trusting_fgctl(&["keys", "list"]));
    assert!(out.status.success(), "{}", told(&out));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handshakes_keep_nobody_out() {
    let plane = ControlPlane::start("2").await;
    let begun = Instant::now();
    // More than it serves at a time.
    let slow: Vec<_> = (0..1100)
        .map(|n| {
            let mut stream = TcpStream::connect(("127.0.0.1", plane.port)).expect("connects");
            // Some begin, some don't even.
            if n % 2 == 0 {
                stream.write_all(&[22, 3, 1]).expect("sent");
            }
            stream
        })
        .collect();
    let asked = Instant::now();
    let said = plane.curl("/health", &[]);
    let (took, age) = (asked.elapsed(), begun.elapsed());
    println!("{} slow handshakes, {age:?} old: an answer after {took:?}", slow.len());
    assert!(said.ends_with("200 2 0"), "{said}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn what_is_wrong_with_the_files_is_told_before_it_listens() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, other) =
        (Authority::new(&dir.path().join("one")), Authority::new(&dir.path().join("other")));
    one.renew("2");
    other.renew("2");
    let database = format!("--database-url=sqlite:{}", dir.path().join("db").display());
    let start = |args: &[String]| {
        let mut command = program("fastgate-control-plane");
        let out = run(command.args([&database, "--node-addr=127.0.0.1:0"]).args(args));
        (out.status.code(), told(&out))
    };
    let open = "--admin-addr=0.0.0.0:0".to_owned();
    let cert = format!("--admin-tls-cert={}", one.cert().display());
    let key = |key: &std::path::Path| format!("--admin-tls-key={}", key.display());
    for (args, code, expected) in [
        (vec![open.clone()], 2, &["--admin-addr", "plain text", "give --admin-tls-cert"][..]),
        (vec![open.clone(), cert.clone()], 2, &["--admin-tls-key is missing"]),
        (
            vec![open.clone(), cert.clone(), key("nowhere.pem".as_ref())],
            1,
            &["--admin-tls-key: can't read nowhere.pem", "name a file"],
        ),
        (
            vec![open.clone(), cert.clone(), key(&other.key())],
            1,
            &["--admin-tls-key: ", "is not the key of", "one/cert.pem", "belong together"],
        ),
        (
            vec![open, cert, key(&one.cert())],
            1,
            &["--admin-tls-key: ", "holds no key that can be read", "PKCS#8"],
        ),
    ] {
        let (found, said) = start(&args);
        println!("{}", said.trim());
        assert_eq!(found, Some(code), "{args:?}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{expected:?}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
}
