//! `fgctl dev`: the whole gateway in one process.

use std::{path::Path, time::Duration};

use http::StatusCode;
use serde_json::Value;

use crate::support::{Client, Process, eventually, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fgctl_dev_serves_and_comes_back_with_what_it_had() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut process, first) = start(dir.path()).await;
    serves(&first).await;
    process.signal("TERM");
    assert_eq!(process.exit_code(Duration::from_secs(10)), Some(0));

    let (_process, second) = start(dir.path()).await;
    serves(&second).await;
    assert_eq!(first["admin_token"], second["admin_token"]);
    assert_eq!(first["api_key"], second["api_key"]);
}

async fn start(dir: &Path) -> (Process, Value) {
    let ready = dir.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let mut command = program("fgctl");
    command.args(["dev", "--proxy-port=0", "--admin-port=0", "--data-dir"]).arg(dir.join("data"));
    command.arg("--ready-file").arg(&ready);
    let process = Process::start("fgctl-dev", command, dir);
    let ready = eventually("fgctl dev is ready", async || {
        serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
    })
    .await;
    (process, ready)
}

async fn serves(ready: &Value) {
    let text = |field: &str| ready[field].as_str().expect("text").to_owned();
    let proxy = Client::new(text("proxy_url"));
    assert_eq!(proxy.get("/demo/x").await.status, StatusCode::UNAUTHORIZED);
    let answer = proxy.with("x-api-key", &text("api_key")).get("/demo/x").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let bearer = format!("Bearer {}", text("admin_token"));
    let admin = Client::new(text("admin_url")).with("authorization", &bearer);
    assert_eq!(admin.get("/health").await.json()["status"], "healthy");
    let keys = admin.get("/admin/keys").await.json();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
}
