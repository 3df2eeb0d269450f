//! `fgctl dev` as a new user has it: one process, everything in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(60);

/// A running `fgctl dev`; killed with the test, if it has not ended by then.
struct Dev {
    child: Child,
    ready: Value,
}

#[allow(clippy::expect_used, reason = "a fault here fails the test")]
impl Dev {
    fn start(folder: &Path) -> Self {
        let ready_file = folder.join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let child = Command::new(env!("CARGO_BIN_EXE_fgctl"))
            .args(["dev", "--proxy-port", "0", "--admin-port", "0"])
            .arg("--data-dir")
            .arg(folder.join("odd %23?&# name"))
            .arg("--ready-file")
            .arg(&ready_file)
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let mut dev = Self { child, ready: Value::Null };
        let deadline = Instant::now() + WITHIN;
        while !ready_file.exists() {
            let ended = dev.child.try_wait().expect("a state");
            assert!(ended.is_none() && Instant::now() < deadline, "not ready: {ended:?}");
            thread::sleep(Duration::from_millis(20));
        }
        let mode = fs::metadata(&ready_file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(ready_file).expect("read");
        dev.ready = serde_json::from_str(&text).expect("whole, as it was renamed into place");
        dev
    }

    fn get(&self, field: &str) -> &str {
        self.ready.get(field).and_then(Value::as_str).expect("a field of the ready file")
    }

    /// The status and body of a request through the proxy.
    fn request(&self, path: &str, key: Option<&str>) -> (String, String) {
        let host = self.get("proxy_url").trim_start_matches("http://");
        let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n");
        let mut proxy = TcpStream::connect(host).expect("a connection");
        proxy.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        proxy.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").into(), body.into())
    }

    fn fgctl(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_fgctl"))
            .args(["--addr", self.get("admin_url"), "-o", "json"])
            .args(args)
            .env("FGCTL_TOKEN", self.get("admin_token"))
            .output()
            .expect("started");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Asks it to end as a service manager does; says how it ended and how long that took.
    fn end(mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let status = self.child.wait().expect("ended");
        (status.code(), asked.elapsed())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).map(|()| path)
}

#[test]
fn dev_serves_a_demo_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = Dev::start(folder.path());
    let key = dev.get("api_key").to_owned();

    let (status, body) = dev.request("/demo/hello?a=1", Some(&key));
    assert_eq!(status, "200", "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&told["path"], &told["query"]), (&"/hello".into(), &"a=1".into()));
    assert_eq!(told["headers"]["x-source-path"], "demo");
    assert!(!body.contains(&key), "the key reached the upstream");
    assert_eq!(dev.request("/demo/hello", None).0, "401");
    assert_eq!(dev.request("/elsewhere", Some(&key)).0, "404");

    let document =
        "routes:\n  - name: mine\n    path: /mine\n    upstream: demo\n    timeout: 30\n";
    let document = write(folder.path(), "gateway.yaml", document).expect("written");
    dev.fgctl(&["apply", "-f", document.to_str().expect("text")]);
    let deadline = Instant::now() + WITHIN;
    while dev.request("/mine", Some(&key)).0 != "200" {
        assert!(Instant::now() < deadline, "the route did not reach the node");
        thread::sleep(Duration::from_millis(20));
    }
    let listed = || {
        let logs = dev.fgctl(&["logs", "list", "--source-path", "demo", "--status", "2xx"]);
        logs["logs"].as_array().map_or(0, Vec::len)
    };
    while listed() == 0 {
        assert!(Instant::now() < deadline, "no request was recorded");
        thread::sleep(Duration::from_millis(20));
    }

    let token = dev.get("admin_token").to_owned();
    let (code, took) = dev.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");

    let dev = Dev::start(folder.path());
    assert_eq!((dev.get("api_key"), dev.get("admin_token")), (&*key, &*token));
    assert_eq!(dev.request("/demo/hello", Some(&key)).0, "200");
    assert_eq!(dev.request("/mine", Some(&key)).0, "200");
    assert_eq!(dev.end().0, Some(0));
}
