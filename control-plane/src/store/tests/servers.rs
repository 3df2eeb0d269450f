//! A private Postgres, and files for SQLite.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A server of its own on a free loopback port; ends when dropped.
pub(super) struct Postgres {
    child: Child,
    port: u16,
    bin: PathBuf,
    _dir: TempDir,
}

impl Postgres {
    pub(super) fn start() -> Self {
        let bin = programs();
        let dir = tempfile::tempdir().expect("a folder");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let data = dir.path().join("data");
        let mut initdb = as_postgres(&bin.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "-D"]).arg(&data);
        run(initdb.stdout(Stdio::null()));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = port.expect("a free port").port();
        let child = as_postgres(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c"])
            .arg(format!("port={port}"))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", dir.path().display()))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("postgres starts");
        let server = Self { child, port, bin, _dir: dir };
        server.wait();
        server
    }

    pub(super) fn create_database(&self, name: &str) -> String {
        // Names of more than 63 bytes are cut by the server.
        let name = &name[..name.len().min(60)];
        run(self.psql().arg(format!("CREATE DATABASE {name}")).stdout(Stdio::null()));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-q", "-p"]).arg(self.port.to_string());
        psql.args(["-d", "postgres", "-c"]);
        psql
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.psql().arg("SELECT 1").output().is_ok_and(|out| out.status.success()) {
            assert!(Instant::now() < deadline, "postgres does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: a fast shutdown, which takes the server's own children along.
        let _ = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub(super) fn sqlite_url() -> (String, TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    (format!("sqlite:{}", dir.path().join("fastgate.db").display()), dir)
}

/// The newest installed Postgres.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = versions.map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists())
        .max()
        .expect("PostgreSQL is not installed: apt-get install postgresql")
}

/// Postgres refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("proc")) == 0
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}"
    );
}
