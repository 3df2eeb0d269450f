//! Programs as child processes.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::command::run_ok;

/// A running program, killed when dropped. What it prints goes to a file, shown when the test fails.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `dir`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let copy = file.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
        Self { child, name: name.into(), log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it like a crash.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        run_ok(Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()));
    }

    /// Whether it has, by itself or by a signal.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waits").is_some()
    }

    /// Its exit code, once it ends by itself within this time.
    pub(crate) fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The peak of its resident memory, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = line.expect("VmHWM").trim().trim_end_matches(" kB").parse().expect("kB");
        kib / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

/// One of FastGate's programs, as built beside this test.
pub(crate) fn program(name: &str) -> Command {
    let test = std::env::current_exe().expect("the test program");
    let built = test.parent().and_then(Path::parent).expect("target/PROFILE").join(name);
    assert!(built.exists(), "{} is missing: cargo build --workspace --bins", built.display());
    // The kernel ends it with this test, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(built);
    command
}
