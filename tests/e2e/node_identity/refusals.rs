//! Who is not let in, and what is told.

use std::{path::Path, time::Duration};

use http::{Method, StatusCode, Uri};

use crate::support::{Client, Gate, Process, Wire, eventually, free_port, program, run};

/// A node that a join token alone brings up, and what its ops port tells.
struct Joining {
    process: Process,
    ops: Client,
}

impl Joining {
    fn start(gate: &Gate, name: &str, token: &str, args: &[&str]) -> Self {
        Self::start_at(&gate.node_url(), gate, name, token, args)
    }

    fn start_at(url: &str, gate: &Gate, name: &str, token: &str, args: &[&str]) -> Self {
        let dir = gate.dir().join(name);
        std::fs::create_dir(&dir).expect("a folder");
        std::fs::write(dir.join("token"), token).expect("writes");
        let ops = free_port();
        let mut command = program("fastgate-data-plane");
        command.args(["--listen=127.0.0.1:0", "--workers=1"]).args(args);
        command.arg(format!("--node-id={name}")).arg(format!("--ops-addr=127.0.0.1:{ops}"));
        command.arg(format!("--control-plane={url}"));
        command.arg("--state-dir").arg(dir.join("state"));
        command.arg("--join-token-file").arg(dir.join("token"));
        let process = Process::start(name, command, &dir);
        Self { process, ops: Client::new(format!("http://127.0.0.1:{ops}")) }
    }

    async fn is_told(&self, why: &str) {
        eventually(why, async || self.process.log().contains(why).then_some(())).await;
        let answer = eventually(why, async || {
            let answer = self.ops.try_send(Method::GET, "/ready", "").await.ok()?;
            String::from_utf8_lossy(&answer.body).contains(why).then_some(answer)
        })
        .await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!self.process.log().contains("fgj_"), "{}", self.process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_one_node_in_once_in_time_and_to_its_environment() {
    let gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let used = std::fs::read_to_string(&gate.nodes[0].token_file).expect("reads");
    Joining::start(&gate, "second", &used, &[]).is_told("was used or deleted").await;

    let expiring = gate.join_token(&["--expires", "100ms"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    Joining::start(&gate, "late", &expiring, &[]).is_told("has expired").await;

    let bound = gate.join_token(&["--node-id", "node-9"]);
    let refused = Joining::start(&gate, "other", &bound, &[]);
    refused.is_told("is for node 'node-9' of environment 'default', not for node 'other'").await;

    let token = gate.join_token(&[]);
    let elsewhere = Joining::start(&gate, "stray", &token, &["--environment=staging"]);
    elsewhere.is_told("is for environment 'default', not for node 'stray'").await;

    let (secret, _) = token.split_once('.').expect("a dot");
    let other_ca = format!("{secret}.{}", "A".repeat(43));
    let refused = Joining::start(&gate, "fooled", &other_ca, &[]);
    refused.is_told("is not of the CA that the join token names").await;
    let wrong = if secret.ends_with('x') { 'y' } else { 'x' };
    let mistaken = format!("{}{wrong}.{}", &secret[..secret.len() - 1], "A".repeat(43));
    Joining::start(&gate, "mistaken", &mistaken, &[]).is_told("is no join token").await;

    for (series, least) in [
        ("fastgate_node_joins_total", 1.0),
        ("fastgate_node_joins_refused_total{reason=\"token_used\"}", 1.0),
        ("fastgate_node_joins_refused_total{reason=\"token_expired\"}", 1.0),
        ("fastgate_node_joins_refused_total{reason=\"token_elsewhere\"}", 2.0),
        ("fastgate_tls_handshake_failures_total{port=\"node\"}", 1.0),
    ] {
        let counted = gate.metric(series).await;
        assert!(counted >= least, "{series}: {counted}");
    }
    assert_eq!(gate.metric("fastgate_node_joins_total").await, 1.0);

    // None of that used it up.
    let tokens = gate.fgctl_json(&["nodes", "tokens", "list"]);
    assert_eq!(tokens["join_tokens"].as_array().expect("tokens").len(), 3, "{tokens}");
    let token_id = tokens["join_tokens"][0]["token_id"].as_str().expect("an id");
    assert!(gate.fgctl(&["nodes", "tokens", "delete", token_id]).status.success());
    assert!(!gate.dump().contains(secret), "only a hash is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_costs_no_token() {
    let mut gate = Gate::with_nodes(1).with_certificates("30d").start().await;
    let url: Uri = gate.node_url().parse().expect("a URL");
    let wire = Wire::to(url.port_u16().expect("a port"));
    wire.slow_by(Duration::from_secs(1));
    let url = format!("https://127.0.0.1:{}", wire.port);
    let node = Joining::start_at(&url, &gate, "far", &gate.join_token(&[]), &[]);
    let control_plane = gate.control_plane();
    let has_joined = || control_plane.log().matches("a node joined").count();
    eventually("it joins", async || (has_joined() == 2).then_some(())).await;
    wire.cut();
    wire.slow_by(Duration::ZERO);
    eventually("the answer is missed", async || {
        node.process.log().contains("can't be reached").then_some(())
    })
    .await;
    wire.mend();
    eventually("it joins again", async || {
        let answer = node.ops.try_send(Method::GET, "/ready", "").await.ok()?;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(has_joined(), 3);
}

/// What a program says that is not to start, and its exit code.
fn mistakes(name: &str, args: &[&str]) -> (String, Option<i32>) {
    let out = run(program(name).args(args));
    (String::from_utf8_lossy(&out.stderr).into_owned(), out.status.code())
}

#[test]
fn plain_text_leaves_no_machine() {
    let node = |args: &[&str]| mistakes("fastgate-data-plane", args);
    let (told, code) = node(&["--control-plane=http://10.0.0.5:9001"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("plain text to another machine: give https://10.0.0.5:9001"), "{told}");

    let dir = tempfile::tempdir().expect("a folder");
    let state = format!("--state-dir={}", dir.path().join("state").display());
    let (told, code) = node(&[
        "--control-plane=https://10.0.0.5:9001",
        &state,
        "--listen=127.0.0.1:0",
        "--ops-addr=127.0.0.1:0",
    ]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("has not joined") && told.contains("--join-token-file"), "{told}");

    let database = format!("--database-url=sqlite:{}", dir.path().join("db").display());
    let (told, code) = mistakes("fastgate-control-plane", &[&database, "--node-addr=0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("plain text") && told.contains("--node-ca-dir"), "{told}");
}

#[test]
fn a_control_plane_with_another_ca_than_the_others_does_not_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = |ca: &str| {
        let mut command = program("fastgate-control-plane");
        command.arg(format!("--database-url=sqlite:{}", dir.path().join("db").display()));
        command.args(["--admin-addr=127.0.0.1:0", "--node-addr=127.0.0.1:0"]);
        command.arg("--node-ca-dir").arg(dir.path().join(ca));
        Process::start(ca, command, dir.path())
    };
    let exit = |mut process: Process, within| (process.exit_code(within), process.log());
    let first = start("one");
    std::thread::sleep(Duration::from_millis(500));
    let (code, log) = exit(first, Duration::from_millis(500));
    assert_eq!(code, None, "{log}");
    let (code, log) = exit(start("other"), Duration::from_secs(10));
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("give this control plane the ca.pem and ca-key.pem of the others"),
        "{log}"
    );
    assert!(is_file(dir.path(), "other/ca.pem"));
    std::fs::remove_file(dir.path().join("one/ca-key.pem")).expect("removes");
    let (code, log) = exit(start("one"), Duration::from_secs(10));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("holds ca.pem and no ca-key.pem"), "{log}");
}

fn is_file(dir: &Path, name: &str) -> bool {
    dir.join(name).is_file()
}
