//! Redis servers of the tests' own, gone when dropped.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::{Duration, Instant},
};

use ::redis::{Client, Connection, FromRedisValue, cmd};
use tempfile::TempDir;

/// What the docs let the user of a node do, and no more: all tests of limits count as this user.
const DOCS: &str = include_str!("../../../../deploy/docs/SETTINGS.md");

/// What else the docs ask for sentinels and clusters.
pub(super) const FOR_SENTINELS: &str = "+role";
pub(super) const FOR_CLUSTERS: &str = "+cluster|slots +asking";

/// A private Redis.
pub(super) struct Server {
    process: Option<Child>,
    pub(super) port: u16,
    _dir: TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_on(free_port())
    }

    pub(super) fn start_on(port: u16) -> Self {
        Self::start_with(port, "")
    }

    /// One with these further settings, as on its command line.
    pub(super) fn start_with(port: u16, settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut command = redis_server(dir.path());
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.args(["--port", &port.to_string()]).args(settings.split_whitespace());
        let server = Self::run(command, port, dir);
        for asked in [FOR_SENTINELS, FOR_CLUSTERS] {
            assert!(DOCS.contains(&format!("`{asked}`")), "the docs tell of {asked}");
        }
        server.admin::<()>(&format!("ACL SETUSER {}", documented_user()));
        server.admin::<()>(&format!("ACL SETUSER fastgate {FOR_SENTINELS} {FOR_CLUSTERS}"));
        server
    }

    /// A sentinel of one master, which decides by itself.
    pub(super) fn start_sentinel(port: u16, master: u16, settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let lines = format!(
            "sentinel monitor mymaster 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mymaster 1000\n"
        );
        std::fs::write(dir.path().join("sentinel.conf"), lines).expect("written");
        let mut command = redis_server(dir.path());
        command.args(["sentinel.conf", "--sentinel", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string()]).args(settings.split_whitespace());
        Self::run(command, port, dir)
    }

    fn run(mut command: Command, port: u16, dir: TempDir) -> Self {
        let process = command.spawn().expect("setpriv is needed: apt-get install util-linux");
        let mut server = Self { process: Some(process), port, _dir: dir };
        eventually("redis-server answers: apt-get install redis-server, 7 or later", || {
            let process = server.process.as_mut().expect("was started");
            assert!(process.try_wait().expect("is a child").is_none(), "redis-server has ended");
            server.client().get_connection().is_ok()
        });
        server
    }

    /// Where a node finds it.
    pub(super) fn url(&self) -> String {
        format!("redis://fastgate:choose-one@127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Client {
        Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a URL")
    }

    /// A connection that may do everything.
    pub(super) fn connection(&self) -> Connection {
        self.client().get_connection().expect("connects")
    }

    /// Has it do something, given as in redis-cli.
    pub(super) fn admin<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split_whitespace();
        let mut asked = cmd(words.next().expect("a command"));
        for word in words {
            asked.arg(word);
        }
        asked.query(&mut self.connection()).unwrap_or_else(|fault| panic!("{command}: {fault}"))
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("ends");
            process.wait().expect("ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// It ends with the thread of its test, however that ends.
fn redis_server(dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "redis-server"]);
    command.current_dir(dir).stdout(Stdio::null());
    command
}

/// The user of a node, as the docs have it.
pub(super) fn documented_user() -> &'static str {
    let lines = DOCS.lines().map(str::trim);
    let mut users = lines.filter_map(|line| {
        line.strip_prefix("user ").filter(|user| user.starts_with("fastgate on "))
    });
    users.next().expect("the docs have the user of a node")
}

/// A port nobody has. None of those the system picks for outgoing connections: one of them might
/// be taken before the server is there.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Tests of another process begin elsewhere.
        let first = (std::process::id() * 61 % 16_000) as u16;
        let port = 12_000 + (first + NEXT.fetch_add(1, Relaxed) % 16_000) % 16_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits, without letting anything else of the test go on.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Three masters and a replica of the first.
pub(super) struct Cluster(pub(super) Vec<Server>);

impl Cluster {
    pub(super) fn start() -> Self {
        let servers: Vec<_> = (0..4).map(|_| Self::server("")).collect();
        let slots = ["0 5460", "5461 10922", "10923 16383"];
        for (epoch, (server, slots)) in servers.iter().zip(slots).enumerate() {
            server.admin::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", epoch + 1));
            server.admin::<()>(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        for server in &servers[1..] {
            let bus = server.admin::<(String, String)>("CONFIG GET cluster-port").1;
            servers[0].admin::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port));
        }
        let cluster = Self(servers);
        cluster.all_say("CLUSTER INFO", "cluster_known_nodes:4");
        let first = cluster.id_of(0);
        cluster.0[3].admin::<()>(&format!("CLUSTER REPLICATE {first}"));
        cluster.all_say("CLUSTER NODES", &format!("slave {first}"));
        cluster.all_say("CLUSTER INFO", "cluster_state:ok");
        eventually("the replica is in step", || {
            cluster.0[3].admin::<String>("INFO replication").contains("master_link_status:up")
        });
        cluster
    }

    /// A server that may be one of a cluster.
    pub(super) fn server(settings: &str) -> Server {
        let (port, bus) = (free_port(), free_port());
        let settings = format!(
            "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-port {bus} \
             --cluster-node-timeout 1500 --cluster-replica-validity-factor 0 {settings}"
        );
        Server::start_with(port, &settings)
    }

    /// Names the first two masters only.
    pub(super) fn url(&self) -> String {
        let [first, second] = [0, 1].map(|at| self.0[at].port);
        format!("redis+cluster://fastgate:choose-one@127.0.0.1:{first},127.0.0.1:{second}")
    }

    pub(super) fn id_of(&self, at: usize) -> String {
        self.0[at].admin("CLUSTER MYID")
    }

    /// A key whose buckets the first master has.
    pub(super) fn key_of_first(&self) -> String {
        let names = (0..).map(|number| format!("k{number}"));
        let mut of_first = names.filter(|name| self.slot_of(name) <= 5460);
        of_first.next().expect("a third of them")
    }

    /// Where the buckets of a key are.
    pub(super) fn slot_of(&self, key: &str) -> u16 {
        self.0[1].admin(&format!("CLUSTER KEYSLOT {{default:{key}}}"))
    }

    fn all_say(&self, command: &str, what: &str) {
        for server in &self.0 {
            eventually(what, || server.admin::<String>(command).contains(what));
        }
    }
}

/// The folder of a CA's certificate, and of the certificate it signed for a server here.
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn make() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "a private CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("a key");
        let ca_pem = ca.self_signed(&ca_key).expect("signed").pem();
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        let signed = server.signed_by(&key, &Issuer::new(ca, ca_key)).expect("signed");
        let dir = tempfile::tempdir().expect("a folder");
        for (name, pem) in
            [("ca.pem", ca_pem), ("cert.pem", signed.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), pem).expect("written");
        }
        Self(dir)
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// The settings of a server that speaks TLS on a second port.
    pub(super) fn settings(&self, port: u16) -> String {
        let dir = self.dir().display();
        format!(
            "--tls-port {port} --tls-auth-clients no --tls-ca-cert-file {dir}/ca.pem \
             --tls-cert-file {dir}/cert.pem --tls-key-file {dir}/key.pem"
        )
    }
}
