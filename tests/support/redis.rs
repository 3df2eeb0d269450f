//! A private Redis server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{
    command::{free_port, run, run_ok},
    process::Process,
    wire::Wire,
};

pub(crate) struct Redis {
    /// Between the nodes and Redis.
    pub(crate) wire: Wire,
    process: Option<Process>,
    port: u16,
    dir: PathBuf,
}

impl Redis {
    pub(crate) fn start(dir: &Path) -> Self {
        let found = Command::new("redis-server").arg("--version").output();
        assert!(found.is_ok(), "Redis is not installed: apt-get install redis-server");
        let port = free_port();
        let mut redis = Self { wire: Wire::to(port), process: None, port, dir: dir.to_owned() };
        redis.restart();
        redis
    }

    /// Starts it again on its port, empty.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1", "--port"]);
        command.arg(self.port.to_string()).args(["--save", "", "--dir"]).arg(&self.dir);
        self.process = Some(Process::start("redis", command, &self.dir));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !run(self.cli().arg("PING")).status.success() {
            assert!(Instant::now() < deadline, "redis does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.wire.port)
    }

    /// Names of all keys it holds.
    pub(crate) fn keys(&self) -> String {
        run_ok(self.cli().args(["KEYS", "*"]))
    }

    /// What a key holds.
    pub(crate) fn get(&self, key: &str) -> String {
        run_ok(self.cli().args(["GET", key]))
    }

    /// Ends all its connections.
    pub(crate) fn disconnect(&self) {
        run_ok(self.cli().args(["CLIENT", "KILL", "TYPE", "normal"]));
    }

    /// Takes all keys from it, with all its connections as they are.
    pub(crate) fn empty(&self) {
        run_ok(self.cli().arg("FLUSHALL"));
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("runs").kill();
    }

    /// Lets it stand still, with all its connections.
    pub(crate) fn freeze(&mut self) {
        self.process.as_ref().expect("runs").signal("STOP");
    }

    pub(crate) fn thaw(&mut self) {
        self.process.as_ref().expect("runs").signal("CONT");
    }

    fn cli(&self) -> Command {
        let mut cli = Command::new("redis-cli");
        cli.arg("-p").arg(self.port.to_string());
        cli
    }
}
