//! TLS of the admin port, seen by curl, openssl and fgctl.

mod refusals;
mod rotation;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{Authority, Process, eventually, free_port, program, run, run_ok};

/// A control plane on every address of the machine, with a certificate, and who made that.
struct ControlPlane {
    dir: tempfile::TempDir,
    authority: Authority,
    process: Process,
    port: u16,
    node_port: u16,
}

impl ControlPlane {
    async fn start(days: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(&dir.path().join("ca"));
        authority.renew(days);
        let (port, node_port) = (free_port(), free_port());
        let mut command = program("fastgate-control-plane");
        command.arg(format!("--database-url=sqlite:{}", dir.path().join("db").display()));
        command.arg(format!("--admin-addr=0.0.0.0:{port}"));
        command.arg(format!("--node-addr=127.0.0.1:{node_port}"));
        command.arg("--bootstrap-token-file").arg(dir.path().join("token"));
        command.arg("--admin-tls-cert").arg(authority.cert());
        command.arg("--admin-tls-key").arg(authority.key());
        let process = Process::start("control-plane", command, dir.path());
        let plane = Self { dir, authority, process, port, node_port };
        eventually("it listens", async || plane.process.log().contains("listening").then_some(()))
            .await;
        plane
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("token")).expect("a token").trim().to_owned()
    }

    /// What curl gets, with status, protocol and its check of the certificate behind it.
    fn curl(&self, path: &str, args: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "--cacert"]).arg(self.authority.ca());
        curl.args(["-w", "\n%{http_code} %{http_version} %{ssl_verify_result}"]).args(args);
        run_ok(curl.arg(format!("{}{path}", self.url("localhost"))))
    }

    /// The same without a check of its end.
    fn try_curl(&self, url: &str, ca: &Path) -> Output {
        run(Command::new("curl").args(["-sS", "-i", "-m", "10", "--cacert"]).arg(ca).arg(url))
    }

    /// `fgctl` as the owner.
    fn fgctl(&self, host: &str, args: &[&str]) -> Command {
        let mut command = program("fgctl");
        command.args(args).env("FGCTL_ADDR", self.url(host)).env("FGCTL_TOKEN", self.token());
        command.env("XDG_CONFIG_HOME", self.dir.path());
        command
    }

    /// The same, trusting its CA.
    fn trusting_fgctl(&self, args: &[&str]) -> Command {
        let mut command = self.fgctl("localhost", args);
        command.env("FGCTL_CA_FILE", self.authority.ca());
        command
    }

    /// Whether `openssl` shakes hands, and what it says.
    fn handshake(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-verify_return_error", "-connect"]);
        command.arg(format!("127.0.0.1:{}", self.port)).arg("-CAfile").arg(self.authority.ca());
        let out = run(command.args(args).stdin(Stdio::null()));
        let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.success(), text)
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.curl("/metrics", &[]);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
    }
}

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_on_the_admin_port_is_there_over_tls_too() {
    let plane = ControlPlane::start("2").await;
    let bearer = format!("authorization: Bearer {}", plane.token());
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        for (protocol, expected) in [("--http1.1", "200 1.1 0"), ("--http2", "200 2 0")] {
            let args = [version, &[protocol, "-H", &bearer]].concat();
            for path in ["/health", "/ready", "/metrics", "/admin/keys"] {
                let said = plane.curl(path, &args);
                assert!(said.ends_with(expected), "{path} {args:?}: {said}");
            }
        }
    }
    let grpc = ["--http2", "-i", "-H", "te: trailers", "--data-binary", "x", "-H"];
    let grpc = [&grpc[..], &["content-type: application/grpc"]].concat();
    let said = plane.curl("/fastgate.admin.v1.KeyService/ListKeys", &grpc);
    assert!(said.contains("grpc-status: 16") && said.contains("200 2 0"), "{said}");

    for (args, is_spoken, protocol) in [
        (&["-alpn", "h2", "-verify_hostname", "localhost"][..], true, "TLSv1.3"),
        (&["-alpn", "http/1.1", "-tls1_2", "-verify_ip", "127.0.0.1"], true, "TLSv1.2"),
        (&["-tls1_1"], false, ""),
        (&["-verify_hostname", "elsewhere.internal"], false, ""),
    ] {
        let (is_made, text) = plane.handshake(args);
        assert!(is_made == is_spoken && text.contains(protocol), "{args:?}: {text}");
    }

    let by_flag = ["keys", "list", "--ca-file", plane.authority.ca().to_str().expect("text")]
        .map(str::to_owned);
    let by_flag: Vec<_> = by_flag.iter().map(String::as_str).collect();
    run_ok(&mut plane.fgctl("localhost", &by_flag));
    run_ok(&mut plane.trusting_fgctl(&["keys", "create", "--source-path", "app"]));
    let doctor = run(&mut plane.trusting_fgctl(&["doctor"]));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("answers at https://localhost"));
    // A context keeps address and CA.
    run_ok(&mut plane.trusting_fgctl(&["context", "set", "here"]));
    let mut by_context = plane.fgctl("localhost", &["keys", "list"]);
    let listed = run_ok(by_context.env_remove("FGCTL_ADDR"));
    assert!(listed.contains("app"), "{listed}");
    let contexts = run_ok(&mut plane.fgctl("localhost", &["context", "list", "-o", "json"]));
    assert!(contexts.contains("ca.pem") && contexts.contains("https://localhost"), "{contexts}");
}
