//! TLS towards clients, seen by curl and openssl.

use std::{path::Path, process::Command};

use http::Method;
use serde_json::json;

use crate::support::{
    Client, Gate, Process, Upstream, eventually, free_port, program, run, run_ok,
};

fn openssl(dir: &Path, command: &str) {
    run_ok(Command::new("openssl").current_dir(dir).args(command.split(' ')));
}

/// A certificate for `localhost` in cert.pem, its key in key.pem.
fn make_certificate(dir: &Path, kind: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -newkey {kind} -keyout key.pem -out cert.pem"
        ),
    );
}

/// Starts a node with the certificate in this folder, and waits until it answers.
async fn start_node(dir: &Path, control_plane: &str) -> (Process, u16, Client) {
    let (tls, ops) = (free_port(), free_port());
    let mut command = program("fastgate-data-plane");
    command.args(["--listen=127.0.0.1:0", "--node-id=tls", "--tls-cert=cert.pem"]);
    command.arg("--tls-key=key.pem").arg(format!("--tls-listen=127.0.0.1:{tls}"));
    command.arg(format!("--ops-addr=127.0.0.1:{ops}"));
    command.arg(format!("--control-plane={control_plane}")).current_dir(dir);
    let process = Process::start("tls", command, dir);
    let ops = Client::new(format!("http://127.0.0.1:{ops}"));
    eventually("the node answers", async || ops.try_send(Method::GET, "/health", "").await.ok())
        .await;
    (process, tls, ops)
}

/// What curl gets, with the protocol and the result of its check of the certificate below it.
fn curl(dir: &Path, port: u16, args: &[&str]) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.current_dir(dir).args(["-sS", "--cacert", "cert.pem", "-m", "20"]);
    curl.args(["-w", "\n%{http_code} %{http_version} %{ssl_verify_result} %{num_connects}"]);
    let out = run(curl.args(args).arg(format!("https://localhost:{port}/over/tls")));
    let (said, failed) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let (body, told) = said.rsplit_once('\n').unwrap_or_else(|| panic!("{args:?}: {failed}"));
    assert!(out.status.success(), "{args:?}: {failed}");
    (body.to_owned(), told.to_owned())
}

// Two threads: curl is waited for on one, the upstream answers on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_talks_to_a_node_in_both_versions_and_protocols() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    make_certificate(dir, "ec -pkeyopt ec_paramgen_curve:P-256");
    let (_node, port, ops) = start_node(dir, &gate.node_url()).await;
    eventually("the node has its config", async || {
        ops.get("/ready").await.status.is_success().then_some(())
    })
    .await;
    std::fs::write(dir.join("large"), vec![b'x'; 8 << 20]).expect("written");
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        for (protocol, told) in [("--http1.1", "200 1.1 0 1"), ("--http2", "200 2 0 1")] {
            let (body, found) = curl(dir, port, &[version, &[protocol]].concat());
            assert_eq!(found, told, "{version:?} {protocol}");
            assert!(body.contains("\"path\":\"/over/tls\""), "{body}");
            let sends = [version, &[protocol, "-H", "expect:", "--data-binary", "@large"]].concat();
            let (body, found) = curl(dir, port, &sends);
            assert_eq!(found, told, "{sends:?}");
            assert!(body.contains("\"received\":8388608"), "{body}");
        }
    }
    let failures = "fastgate_tls_handshake_failures_total 0";
    let metrics = String::from_utf8(ops.get("/metrics").await.body.to_vec()).expect("text");
    assert!(metrics.lines().any(|line| line == failures), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_taken_in_every_form_openssl_writes_them_in() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for (kind, convert) in [
        ("ec -pkeyopt ec_paramgen_curve:P-256", ""),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "ec -in key.pem -out key.pem"),
        ("rsa:2048", "rsa -traditional -in key.pem -out key.pem"),
        ("rsa:2048", ""),
        ("ed25519", ""),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        make_certificate(dir.path(), kind);
        if !convert.is_empty() {
            openssl(dir.path(), convert);
        }
        let (_node, port, _) = start_node(dir.path(), &nowhere).await;
        let (_, told) = curl(dir.path(), port, &[]);
        // It has no config: that it says so over TLS is all there is to be seen.
        assert_eq!(told, "503 2 0 1", "{kind} {convert}");
    }
}
