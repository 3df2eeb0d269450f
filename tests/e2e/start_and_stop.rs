//! How the programs start, fail to, and end.

use std::{
    net::TcpListener,
    process::Output,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Client, Gate, Postgres, Process, Upstream, eventually, free_port, program, run,
};

#[test]
fn what_stands_in_the_way_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("bound");
    let dir = tempfile::tempdir().expect("a folder");
    let sqlite = format!("sqlite:{}", dir.path().join("x.db").display());
    let nothing_there = format!("postgres://u:hunter2@127.0.0.1:{}/x", free_port());
    let (control_plane, node) = ("fastgate-control-plane", "fastgate-data-plane");
    let no_such_database = Postgres::shared().url("nowhere");
    let cases: [(&str, &[&str], &str); 9] = [
        (control_plane, &["--database-url", &no_such_database], "\"nowhere\" does not exist: "),
        (node, &["--listen", &taken.1, "--ops-addr=127.0.0.1:0"], "--listen"),
        (
            control_plane,
            &[
                "--database-url",
                &nothing_there,
                "--admin-addr=127.0.0.1:0",
                "--node-addr=127.0.0.1:0",
            ],
            "--database-url",
        ),
        (control_plane, &["--database-url", "mysql://x"], "--database-url"),
        (control_plane, &["--database-url", &sqlite, "--admin-addr", "here"], "--admin-addr"),
        (control_plane, &["--database-url", &sqlite, "--admin-addr", &taken.1], &taken.1),
        (control_plane, &["--database-url", &sqlite, "--admin-addr", "0.0.0.0:0"], "--admin-addr"),
        (node, &["--listen", "here", "--ops-addr=127.0.0.1:0"], "--listen"),
        (node, &["--listen=127.0.0.1:0", "--ops-addr", &taken.1], &taken.1),
    ];
    for (name, args, told) in cases {
        let Output { status, stdout, stderr } = run(program(name).args(args).current_dir(&dir));
        let said = String::from_utf8_lossy(&stderr).into_owned();
        println!("{} {}", status.code().unwrap_or(-1), said.trim());
        assert!(status.code().is_some_and(|code| code > 0), "{args:?} ended with {status}");
        assert!(stdout.is_empty(), "{args:?}");
        assert_eq!(said.trim().lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains(told), "{args:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn ports_of_a_running_gateway_are_not_taken_over() {
    let gate = Gate::with_nodes(1).start().await;
    let address = gate.nodes[0].proxy_url.trim_start_matches("http://");
    let mut second = program("fastgate-data-plane");
    second.args(["--listen", address, "--ops-addr=127.0.0.1:0", "--node-id=second"]);
    let out = run(second.current_dir(gate.dir()));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    println!("{}", said.trim());
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.contains(address) && said.contains("--listen"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_asked_to_stop_does_with_nodes_connected() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).start().await;
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
    let started = Instant::now();
    let control_plane = gate.control_plane();
    control_plane.signal("TERM");
    assert_eq!(
        control_plane.exit_code(Duration::from_secs(10)),
        Some(0),
        "{}",
        control_plane.log()
    );
    println!("SIGTERM to exit of a control plane with two nodes: {:?}", started.elapsed());
    for node in &gate.nodes {
        assert_eq!(node.proxy.get("/").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_node_without_a_control_plane_waits_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let ops = free_port();
    let mut command = program("fastgate-data-plane");
    command.args(["--listen=127.0.0.1:0", "--node-id=lonely"]);
    command.arg(format!("--ops-addr=127.0.0.1:{ops}"));
    command.arg(format!("--control-plane=http://127.0.0.1:{}", free_port()));
    command.arg("--state-dir").arg(dir.path().join("state"));
    let mut node = Process::start("lonely", command, dir.path());
    let client = Client::new(format!("http://127.0.0.1:{ops}"));
    let answer = eventually("the ops port answers, with the reason", async || {
        let answer = client.try_send(Method::GET, "/ready", "").await.ok()?;
        String::from_utf8_lossy(&answer.body).contains("refused").then_some(answer)
    })
    .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client.get("/health").await.status, StatusCode::OK);
    assert_eq!(node.exit_code(Duration::from_secs(3)), None, "no reason to exit");
    let log = node.log();
    let told = log.lines().filter(|line| line.contains("control plane")).count();
    assert_eq!(told, 1, "once a minute, not at every try:\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_under_way() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).start().await;
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": [{"url": upstream.url}],
    });
    gate.route(route).await;
    let client = gate.nodes[0].proxy.clone();
    let under_way = tokio::spawn(async move { client.get("/slow/1000").await });
    eventually("the request is under way", async || (upstream.served() == 1).then_some(())).await;
    let started = Instant::now();
    gate.nodes[0].process().signal("TERM");
    let fresh = Client::new(&gate.nodes[0].proxy_url);
    eventually("no new connection is taken", async || {
        fresh.try_send(Method::GET, "/", "").await.err().map(drop)
    })
    .await;
    assert_eq!(under_way.await.expect("answered").status, StatusCode::OK);
    assert_eq!(gate.nodes[0].process().exit_code(Duration::from_secs(10)), Some(0));
    println!("SIGTERM to exit with a request of one second under way: {:?}", started.elapsed());
}
