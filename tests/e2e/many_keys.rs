//! Keys by the thousand: imported, exported, and served at once.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Gate, Process, Upstream};

const KEYS: usize = 5000;

/// A gateway with a route, and a file of keys without ids or secrets.
async fn gate_and_file(upstream: &Upstream) -> (Gate, PathBuf) {
    let gate = Gate::with_nodes(1).start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let line = |n| json!({"source_path": format!("app-{n}"), "rate_limit": 1_000_000}).to_string();
    let lines: Vec<_> = (0..KEYS).map(line).collect();
    let file = gate.dir().join("keys.jsonl");
    fs::write(&file, lines.join("\n")).expect("writes");
    (gate, file)
}

/// Runs `fgctl`, which must succeed; what it said on the error stream.
fn fgctl(gate: &Gate, args: &[&str]) -> (String, String) {
    let out = gate.fgctl(args);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err, status) = (text(out.stdout), text(out.stderr), out.status);
    assert!(status.success(), "{args:?}: {err}");
    (out, err)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// The secrets an import has written, by the line of their key.
fn secrets(file: &Path) -> BTreeMap<u64, String> {
    let lines = fs::read_to_string(file).expect("reads");
    let line = |line: &str| {
        let secret: Value = serde_json::from_str(line).expect("JSON");
        (
            secret["line"].as_u64().expect("a line"),
            secret["key_value"].as_str().expect("a secret").into(),
        )
    };
    lines.lines().map(line).collect()
}

async fn serves(gate: &Gate, secret: &str) -> bool {
    gate.settle().await;
    gate.nodes[0].with_key(secret).get("/").await.status == StatusCode::OK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_keys_are_served_from_the_first_to_the_last() {
    let upstream = Upstream::start("up").await;
    let (gate, file) = gate_and_file(&upstream).await;
    let out = gate.dir().join("secrets.jsonl");
    let import = ["keys", "import", text(&file), "--secrets-out", text(&out)];
    let (before, _) = gate.revisions().await;
    let (_, said) = fgctl(&gate, &import);
    assert!(said.contains("5000 keys are imported, 0 are there already"), "{said}");
    assert_eq!(gate.revisions().await.0, before + 5, "a revision for each thousand");
    assert_eq!(fs::metadata(&out).expect("is there").permissions().mode() & 0o777, 0o600);
    let made = secrets(&out);
    assert_eq!(made.len(), KEYS);
    for line in [1, KEYS as u64] {
        assert!(serves(&gate, &made[&line]).await, "line {line}");
    }
    // Once more: nothing is left to do.
    let (_, said) = fgctl(&gate, &import);
    assert!(said.contains("0 keys are imported, 5000 are there already"), "{said}");
    assert_eq!((secrets(&out), gate.revisions().await.0), (made, before + 5));
    assert!(!gate.dump().contains(&secrets(&out)[&1]), "no secret is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_killed_goes_on_and_loses_no_secret() {
    let upstream = Upstream::start("up").await;
    let (gate, file) = gate_and_file(&upstream).await;
    let out = gate.dir().join("secrets.jsonl");
    let args = ["keys", "import", text(&file), "--secrets-out", text(&out)];
    let import = Process::start("import", gate.fgctl_command(&args), gate.dir());
    let began = Instant::now();
    while gate.revisions().await.0 == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", import.log());
    }
    import.kill();
    // As if it had been killed within a line.
    let mut written = fs::read_to_string(&out).expect("reads");
    written.push_str("{\"line\": 4");
    fs::write(&out, written).expect("writes");
    let before = fs::read_to_string(&out).expect("reads").lines().count() - 1;

    let (_, said) = fgctl(&gate, &args);
    let there = gate.fgctl_json(&["keys", "list", "--limit", "10000"]);
    assert_eq!(there["keys"].as_array().expect("keys").len(), KEYS, "{before} before: {said}");
    let made = secrets(&out);
    assert_eq!(made.len(), KEYS);
    for line in [1, before as u64, KEYS as u64] {
        assert!(serves(&gate, &made[&line]).await, "line {line}");
    }
    // The secrets of one file are none of another.
    let other = gate.dir().join("other.jsonl");
    fs::write(&other, json!({"source_path": "other"}).to_string()).expect("writes");
    let refused = gate.fgctl(&["keys", "import", text(&other), "--secrets-out", text(&out)]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("give another file"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_are_named_and_nothing_is_imported() {
    let gate = Gate::with_nodes(0).start().await;
    let file = gate.dir().join("keys.jsonl");
    let out = gate.dir().join("secrets.jsonl");
    let lines = [
        r#"{"key_id": "one", "source_path": "app"}"#,
        r#"{"key_id": "Two", "source_path": "", "rate_limit": -1}"#,
        "",
        r#"{"source_path": "app", "rate": 5}"#,
        r#"{"source_path": "app", "rate_limit": "5"}"#,
        r#"{"source_path": "app""#,
        r#"{"key_id": "one", "source_path": "app"}"#,
        r#"{"key_id": "k3", "source_path": "app", "secrets": [{"hash": "abc"}]}"#,
        r#"{"source_path": "app", "expires_at": "2001-01-01T00:00:00Z"}"#,
    ];
    fs::write(&file, lines.join("\n")).expect("writes");
    let refused = gate.fgctl(&["keys", "import", text(&file), "--secrets-out", text(&out)]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for expected in [
        ":2: key_id: must be 1 to 63 of a-z",
        ":2: source_path: is missing",
        ":2: rate_limit: ",
        ":4: rate: is no field: use one of key_id",
        ":5: rate_limit: must be a whole number",
        ":6: line: is no JSON",
        ":7: key_id: is that of line 1",
        ":8: secrets[0].hash: must be 64 hex digits",
        ":9: expires_at: is in the past",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!out.exists(), "no secret was made");
    assert_eq!(gate.revisions().await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_there_and_differs_keeps_its_thousand_out() {
    let gate = Gate::with_nodes(0).start().await;
    let import = |name: &str, limit: usize| {
        let file = gate.dir().join(name);
        let line = |n| match n {
            1500 => json!({"key_id": "there", "source_path": "app", "rate_limit": limit}),
            n => json!({"key_id": format!("k{n}"), "source_path": "app"}),
        };
        let lines: Vec<_> = (1..=2000).map(|n| line(n).to_string()).collect();
        fs::write(&file, lines.join("\n")).expect("writes");
        let out = gate.dir().join("secrets.jsonl");
        gate.fgctl(&["keys", "import", text(&file), "--secrets-out", text(&out)])
    };
    let there = json!({"keys": [{"key_id": "there", "source_path": "app", "rate_limit": 5}]});
    let made = gate.admin.json(Method::POST, "/admin/keys:import", there.clone()).await;
    assert!(made["keys"][0]["key_value"].as_str().is_some_and(|secret| secret.starts_with("fg_")));
    let again = gate.admin.json(Method::POST, "/admin/keys:import", there).await;
    assert_eq!(again["keys"][0], json!({"key_id": "there", "existed": true}));

    let refused = import("keys.jsonl", 6);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("keys.jsonl:1500: rate_limit: differs from key 'there'"), "{said}");
    assert!(said.contains("1000 of 2000 keys are there"), "{said}");
    let keys = gate.fgctl_json(&["keys", "list", "--limit", "10000"]);
    assert_eq!(keys["keys"].as_array().expect("keys").len(), 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_imports_elsewhere_as_it_was() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (old, secret) = gate.key(json!({"source_path": "app", "permissions": ["a:read"]})).await;
    let new =
        gate.fgctl_json(&["keys", "rotate", &old])["key_value"].as_str().expect("one").to_owned();
    let ended = json!({"source_path": "b", "is_active": false, "description": "for \"you\"",
        "expires_at": "2040-01-01T00:00:00.5Z", "rate_limit": 7, "rate_limit_fallback": "open"});
    gate.key(ended).await;

    let (export, _) = fgctl(&gate, &["keys", "export", "--with-hashes"]);
    assert_eq!(export.lines().count(), 2);
    assert!(!export.contains("fg_"), "no secret: {export}");
    let file = gate.dir().join("export.jsonl");
    fs::write(&file, &export).expect("writes");
    gate.fgctl_json(&["envs", "create", "staging"]);
    let import = ["-e", "staging", "keys", "import", text(&file)];
    let (dry, said) = fgctl(&gate, &[&import[..], &["--dry-run"]].concat());
    assert!(dry.is_empty() && said.contains("2 keys can be imported"), "{said}");
    let (printed, _) = fgctl(&gate, &import);
    assert_eq!(printed, "", "their secrets are known");
    let (again, _) = fgctl(&gate, &["-e", "staging", "keys", "export", "--with-hashes"]);
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&again), sorted(&export));

    // What was deleted comes back with its secrets.
    fgctl(&gate, &["keys", "delete", &old]);
    assert!(!serves(&gate, &secret).await);
    fgctl(&gate, &["keys", "import", text(&file)]);
    assert!(serves(&gate, &secret).await && serves(&gate, &new).await);

    // Under another name they would open two keys.
    let renamed = gate.dir().join("renamed.jsonl");
    fs::write(&renamed, export.replace(&old, "renamed")).expect("writes");
    let refused = gate.fgctl(&["keys", "import", text(&renamed)]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&format!("secrets: hold a secret of key '{old}'")), "{said}");

    let (plain, _) = fgctl(&gate, &["keys", "export"]);
    assert!(!plain.contains("hash"), "{plain}");
    let viewer = json!({"name": "viewer", "role": "viewer"});
    let token = gate.admin.json(Method::POST, "/admin/tokens", viewer).await;
    let bearer = format!("Bearer {}", token["token_value"].as_str().expect("a token"));
    let viewer = gate.admin.clone().with("authorization", &bearer);
    assert_eq!(viewer.get("/admin/keys:export").await.status, StatusCode::FORBIDDEN);
    assert!(!String::from_utf8_lossy(&viewer.get("/admin/keys").await.body).contains("hash"));
}
