//! A private Postgres server for all tests of this program, a database for each; and one of its own
//! for a test that kills it.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::command::{free_port, run, run_ok};

/// The server. It ends, and its files go, when the test program ends.
pub(crate) struct Postgres {
    port: u16,
    bin: PathBuf,
    dir: PathBuf,
}

/// A server of one test's own. It ends, and its files go, when it is dropped.
pub(crate) struct OwnPostgres {
    server: Postgres,
    child: Child,
}

impl Postgres {
    pub(crate) fn shared() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(|| {
            // The kernel ends a child with the thread that started it, so that must be one that
            // lives as long as the program.
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let (server, mut shell) = Self::start();
                sender.send(server).expect("waits");
                shell.wait().expect("ends");
            });
            receiver.recv().expect("postgres starts")
        })
    }

    /// Makes an empty database and returns its URL.
    pub(crate) fn create_database(&self, name: &str) -> String {
        run_ok(self.psql("postgres").arg("-c").arg(format!("CREATE DATABASE {name}")));
        self.url(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        Self::url_at(self.port, name)
    }

    /// The URL of a database that is reached through another port.
    pub(crate) fn url_at(port: u16, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{name}")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Everything in a database, as `pg_dump` writes it.
    pub(crate) fn dump(&self, name: &str) -> String {
        run_ok(
            Command::new(self.bin.join("pg_dump"))
                .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
                .arg(self.port.to_string())
                .arg(name),
        )
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-qAt", "-d", database, "-p"]);
        psql.arg(self.port.to_string());
        psql
    }

    fn start() -> (Self, Child) {
        let server = Self::initialise();
        // A shell that outlives the test program by as long as it takes to clear up.
        let script = format!(
            "{} & trap 'kill -QUIT $!; wait; rm -rf {}; exit' INT TERM; wait",
            server.command_line(),
            server.dir.display(),
        );
        let mut shell = as_postgres();
        let shell = shell.args(["sh", "-c", &script]).spawn().expect("postgres starts");
        server.wait();
        (server, shell)
    }

    /// Without files.
    fn empty() -> Self {
        let bin = installed();
        let dir = tempfile::tempdir().expect("a folder").keep();
        if is_root() {
            run_ok(Command::new("chown").arg("postgres").arg(&dir));
        }
        Self { port: free_port(), bin, dir }
    }

    /// Its files, before it runs.
    fn initialise() -> Self {
        let server = Self::empty();
        let Self { bin, dir, .. } = &server;
        run_ok(
            as_postgres()
                .arg(bin.join("initdb"))
                .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
                .arg(dir.join("data")),
        );
        server
    }

    /// A copy of its files that follows it, before it runs.
    fn copy(&self) -> Self {
        let copy = Self::empty();
        let args = ["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast", "--no-sync", "-p"];
        run_ok(
            as_postgres()
                .arg(copy.bin.join("pg_basebackup"))
                .args(args)
                .arg(self.port.to_string())
                .arg("-D")
                .arg(copy.dir.join("data")),
        );
        copy
    }

    fn command_line(&self) -> String {
        let Self { port, bin, dir } = self;
        let (bin, dir) = (bin.display(), dir.display());
        format!(
            "{bin}/postgres -D {dir}/data -p {port} -c listen_addresses=127.0.0.1 -c fsync=off \
             -c max_connections=300 -k {dir} >>{dir}/log 2>&1"
        )
    }

    fn answers(&self) -> bool {
        run(self.psql("postgres").args(["-c", "SELECT 1"])).status.success()
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.answers() {
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "postgres does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl OwnPostgres {
    pub(crate) fn start() -> Self {
        let server = Postgres::initialise();
        let child = Self::spawn(&server);
        server.wait();
        Self { server, child }
    }

    /// A standby that follows it.
    pub(crate) fn start_standby(&self) -> Self {
        let server = self.server.copy();
        let child = Self::spawn(&server);
        server.wait();
        Self { server, child }
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        run_ok(self.server.psql("postgres").args(["-c", "SELECT pg_promote()"]));
    }

    /// Waits until a standby has all that its primary has.
    pub(crate) fn catch_up_with(&self, primary: &Self) {
        let position = |server: &Postgres, asked: &str| {
            run_ok(server.psql("postgres").args(["-c", &format!("SELECT {asked} - '0/0'")]))
        };
        let number = |text: String| text.trim().parse::<f64>().expect("a position");
        let wanted = number(position(&primary.server, "pg_current_wal_lsn()"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while number(position(&self.server, "pg_last_wal_replay_lsn()")) < wanted {
            assert!(Instant::now() < deadline, "the standby does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to all its processes: `STOP` and `CONT` freeze it and let it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let first = self.child.id();
        let below = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let below = below.expect("it runs");
        let mut kill = Command::new("kill");
        kill.arg(format!("-{signal}")).arg(first.to_string()).args(below.split_whitespace());
        // One of them may just have ended.
        run(&mut kill);
    }

    pub(crate) fn server(&self) -> &Postgres {
        &self.server
    }

    /// Ends it like a crash: its processes end when they find that the first one is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    /// Starts it on what the one before has left, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        self.child = Self::spawn(&self.server);
        while !self.server.answers() {
            assert!(Instant::now() < deadline, "postgres does not start");
            std::thread::sleep(Duration::from_millis(20));
            // It does not start while processes of the one before hold their memory.
            if self.child.try_wait().expect("waits").is_some() {
                self.child = Self::spawn(&self.server);
            }
        }
    }

    fn spawn(server: &Postgres) -> Child {
        let mut shell = as_postgres();
        let line = format!("exec {}", server.command_line());
        shell.args(["sh", "-c", &line]).spawn().expect("postgres starts")
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A test that failed while it was frozen would leave its processes behind.
            self.signal("CONT");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.server.dir);
    }
}

/// The newest Postgres as Debian installs it, else the one in the path.
fn installed() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_it = |bin: &PathBuf| bin.join("initdb").exists();
    versions
        .map(|version| version.path().join("bin"))
        .filter(has_it)
        .max()
        .or_else(|| std::env::split_paths(&path).find(has_it))
        .expect("PostgreSQL is not installed: apt-get install postgresql")
}

/// Postgres refuses to run as root.
fn as_postgres() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
}

fn is_root() -> bool {
    run_ok(Command::new("id").arg("-u")).trim() == "0"
}
