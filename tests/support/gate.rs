//! A whole gateway: Postgres, Redis, one control plane, some nodes.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    client::Client,
    command::{free_port, run, run_ok},
    eventually,
    node::{Node, series_in},
    postgres::{OwnPostgres, Postgres},
    process::{Process, program},
    redis::Redis,
    wire::Wire,
};

pub(crate) struct Gate {
    pub(crate) nodes: Vec<Node>,
    /// REST with the owner's token.
    pub(crate) admin: Client,
    pub(crate) redis: Option<Redis>,
    /// Between the control plane and Postgres.
    pub(crate) wire: Wire,
    control_plane: Option<Process>,
    postgres: Option<OwnPostgres>,
    standby: Option<OwnPostgres>,
    database: String,
    admin_port: u16,
    node_port: u16,
    /// How long the certificates of nodes hold; `None`: they need none.
    certificate_life: Option<String>,
    node_disk: Option<&'static str>,
    node_variables: Vec<(String, String)>,
    dir: TempDir,
    // Last: everything above has ended when another test takes its turn.
    _turn: Turn,
}

/// One more control plane on the database of a gateway.
pub(crate) struct Replica {
    /// REST with the owner's token.
    pub(crate) admin: Client,
    /// Between it and Postgres.
    pub(crate) wire: Wire,
    node_port: u16,
    _process: Process,
}

/// What a gateway is made of.
pub(crate) struct GateBuilder {
    nodes: usize,
    redis: bool,
    own_postgres: bool,
    standby: bool,
    alone: bool,
    hours_off: Vec<i32>,
    node_disk: Option<&'static str>,
    node_args: Vec<String>,
    node_variables: Vec<(String, String)>,
    labels: Vec<String>,
    certificate_life: Option<String>,
}

/// Held by every gateway: tests run side by side, but for those that measure. A test starts one
/// gateway only, or it could wait for itself.
#[expect(dead_code, reason = "held, never read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    async fn wait(alone: bool) -> Self {
        static MACHINE: RwLock<()> = RwLock::const_new(());
        if alone { Self::Alone(MACHINE.write().await) } else { Self::Shared(MACHINE.read().await) }
    }
}

impl GateBuilder {
    pub(crate) fn with_redis(mut self) -> Self {
        self.redis = true;
        self
    }

    /// With a Postgres that can be killed.
    pub(crate) fn with_own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// The same, with a standby that control planes know of as well.
    pub(crate) fn with_standby(mut self) -> Self {
        (self.own_postgres, self.standby) = (true, true);
        self
    }

    /// Runs beside no other gateway: for a test whose figures depend on the machine.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Flags of the nodes.
    pub(crate) fn with_node_args(mut self, args: &[&str]) -> Self {
        self.node_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Nodes have their state on a disk of this size, such as `4m`, which is empty at each start.
    pub(crate) fn with_node_disk(mut self, size: &'static str) -> Self {
        self.node_disk = Some(size);
        self
    }

    /// A variable of the nodes.
    pub(crate) fn with_node_variable(mut self, name: &str, value: &str) -> Self {
        self.node_variables.push((name.into(), value.into()));
        self
    }

    /// What each of the nodes is labelled with, empty for nothing.
    pub(crate) fn with_labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }

    /// Nodes join, and show certificates that hold for so long, such as `30d`.
    pub(crate) fn with_certificates(mut self, life: &str) -> Self {
        self.certificate_life = Some(life.into());
        self
    }

    /// The clocks of the nodes, in hours from the real time.
    pub(crate) fn with_clocks_off(mut self, hours: &[i32]) -> Self {
        self.hours_off = hours.to_vec();
        self
    }

    /// Starts everything and waits until it serves.
    pub(crate) async fn start(self) -> Gate {
        let turn = Turn::wait(self.alone).await;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = format!("gate{}", COUNT.fetch_add(1, SeqCst));
        let postgres = self.own_postgres.then(OwnPostgres::start);
        let server = postgres.as_ref().map_or_else(|| Postgres::shared(), OwnPostgres::server);
        server.create_database(&database);
        let wire = Wire::to(server.port());
        let standby = postgres.as_ref().filter(|_| self.standby).map(OwnPostgres::start_standby);
        let dir = tempfile::tempdir().expect("a folder");
        let (admin_port, node_port) = (free_port(), free_port());
        let redis = self.redis.then(|| Redis::start(dir.path()));
        let mut gate = Gate {
            nodes: Vec::new(),
            admin: Client::new(format!("http://127.0.0.1:{admin_port}")),
            redis,
            wire,
            control_plane: None,
            postgres,
            standby,
            database,
            admin_port,
            node_port,
            certificate_life: self.certificate_life,
            node_disk: self.node_disk,
            node_variables: self.node_variables,
            dir,
            _turn: turn,
        };
        gate.start_control_plane().await;
        gate.admin = gate.admin.clone().with("authorization", &format!("Bearer {}", gate.token()));
        for n in 1..=self.nodes {
            let hours_off = self.hours_off.get(n - 1).copied().unwrap_or_default();
            let labels = self.labels.get(n - 1).filter(|labels| !labels.is_empty());
            let labels = labels.map(|labels| format!("--labels={labels}"));
            let args: Vec<_> = self.node_args.iter().cloned().chain(labels).collect();
            let node = gate.node(n, &[gate.node_port], hours_off, &args);
            gate.nodes.push(node);
        }
        for node in &gate.nodes {
            node.ready().await;
        }
        gate
    }
}

impl Gate {
    pub(crate) fn with_nodes(nodes: usize) -> GateBuilder {
        GateBuilder {
            nodes,
            redis: false,
            own_postgres: false,
            standby: false,
            alone: false,
            hours_off: Vec::new(),
            node_disk: None,
            node_args: Vec::new(),
            node_variables: Vec::new(),
            labels: Vec::new(),
            certificate_life: None,
        }
    }

    /// Starts the control plane, the first time or again, and waits until it answers.
    pub(crate) async fn start_control_plane(&mut self) {
        let ports = (self.admin_port, self.node_port);
        self.control_plane = Some(self.launch("control-plane", ports, &self.wire).await);
    }

    /// Starts one more control plane.
    pub(crate) async fn start_replica(&self) -> Replica {
        let (admin_port, node_port) = (free_port(), free_port());
        let own = self.postgres.as_ref().map(OwnPostgres::server);
        let wire = Wire::to(own.unwrap_or_else(|| Postgres::shared()).port());
        let process = self.launch("replica", (admin_port, node_port), &wire).await;
        let admin = Client::new(format!("http://127.0.0.1:{admin_port}"));
        let admin = admin.with("authorization", &format!("Bearer {}", self.token()));
        Replica { admin, wire, node_port, _process: process }
    }

    /// Starts one more node, which follows that control plane, and waits until it serves.
    pub(crate) async fn add_node(&mut self, replica: &Replica) {
        let node = self.node(self.nodes.len() + 1, &[replica.node_port], 0, &[]);
        node.ready().await;
        self.nodes.push(node);
    }

    /// The same, and it knows of the first control plane, too.
    pub(crate) async fn add_node_of_both(&mut self, replica: &Replica) {
        let ports = [replica.node_port, self.node_port];
        let node = self.node(self.nodes.len() + 1, &ports, 0, &[]);
        node.ready().await;
        self.nodes.push(node);
    }

    async fn launch(
        &self,
        name: &str,
        (admin_port, node_port): (u16, u16),
        wire: &Wire,
    ) -> Process {
        let mut command = program("fastgate-control-plane");
        command
            .env("FASTGATE_DATABASE_URL", self.database_url(wire))
            .arg(format!("--admin-addr=127.0.0.1:{admin_port}"))
            .arg(format!("--node-addr=127.0.0.1:{node_port}"))
            .arg("--bootstrap-token-file")
            .arg(self.token_file());
        if let Some(life) = &self.certificate_life {
            command.arg("--node-ca-dir").arg(self.ca_dir());
            command.arg(format!("--node-certificate-life={life}"));
        }
        let process = Process::start(name, command, self.dir.path());
        let admin = Client::new(format!("http://127.0.0.1:{admin_port}"));
        eventually("the control plane answers", async || {
            let answer = admin.try_send(Method::GET, "/health", "").await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        process
    }

    fn database_url(&self, wire: &Wire) -> String {
        let url = Postgres::url_at(wire.port, &self.database);
        let Some(standby) = &self.standby else { return url };
        let (before, name) = url.rsplit_once('/').expect("a name");
        format!("{before},127.0.0.1:{}/{name}", standby.server().port())
    }

    pub(crate) fn control_plane(&mut self) -> &mut Process {
        self.control_plane.as_mut().expect("runs")
    }

    pub(crate) fn kill_control_plane(&mut self) {
        self.control_plane.take().expect("runs").kill();
    }

    /// The one that can be killed.
    pub(crate) fn postgres(&mut self) -> &mut OwnPostgres {
        self.postgres.as_mut().expect("of its own")
    }

    /// What follows it.
    pub(crate) fn standby(&mut self) -> &mut OwnPostgres {
        self.standby.as_mut().expect("of its own")
    }

    /// Waits until the standby has all that Postgres has.
    pub(crate) fn standby_catches_up(&self) {
        let primary = self.postgres.as_ref().expect("of its own");
        self.standby.as_ref().expect("of its own").catch_up_with(primary);
    }

    /// How often a worker found that Redis is away; it does also where the machine stands still.
    pub(crate) fn redis_outages(&self) -> usize {
        let logs = self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.log()));
        logs.map(|log| log.matches("redis is away").count()).sum()
    }

    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("runs")
    }

    pub(crate) fn dump(&self) -> String {
        let own = self.postgres.as_ref().map(OwnPostgres::server);
        own.unwrap_or_else(|| Postgres::shared()).dump(&self.database)
    }

    /// `fgctl` as the owner.
    pub(crate) fn fgctl(&self, args: &[&str]) -> Output {
        run(&mut self.fgctl_command(args))
    }

    /// The same, when it must succeed: what it printed, as JSON.
    pub(crate) fn fgctl_json(&self, args: &[&str]) -> Value {
        let out = run_ok(self.fgctl_command(&["-o", "json"]).args(args));
        serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}"))
    }

    /// Creates a key and returns its id and its secret.
    pub(crate) async fn key(&self, body: Value) -> (String, String) {
        let key = self.admin.json(Method::POST, "/admin/keys", body).await;
        let text = |field: &str| key[field].as_str().expect(field).to_owned();
        (text("key_id"), text("key_value"))
    }

    /// Creates a route and returns its id once every node has it.
    pub(crate) async fn route(&self, body: Value) -> String {
        let route = self.admin.json(Method::POST, "/admin/routes", body).await;
        self.settle().await;
        route["route_id"].as_str().expect("an id").to_owned()
    }

    /// The newest revisions of the default environment: of its keys, of its config.
    pub(crate) async fn revisions(&self) -> (u64, u64) {
        let path = "/admin/environments/default";
        let environment = self.admin.json(Method::GET, path, json!({})).await;
        let revision = |field: &str| environment[field].as_u64().expect(field);
        (revision("keys_revision"), revision("config_revision"))
    }

    /// The value of one series of the control plane.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let answer = self.admin.get("/metrics").await;
        series_in(&answer, series)
    }

    /// Waits until every node has acknowledged the newest revisions.
    pub(crate) async fn settle(&self) {
        let (keys, config) = self.revisions().await;
        for node in &self.nodes {
            eventually("the node has the newest revisions", async || {
                let at = async |ns: &str| {
                    node.metric(&format!("fastgate_config_revision{{namespace=\"{ns}\"}}")).await
                };
                (at("keys").await >= keys as f64 && at("config").await >= config as f64)
                    .then_some(())
            })
            .await;
        }
    }

    /// All audit events of the last hour, newest first, once there are so many.
    pub(crate) async fn logs(&self, expected: usize) -> Vec<Value> {
        eventually("the events are stored", async || {
            let page = self.admin.get("/admin/logs?page_size=1000").await.json();
            let logs = page["logs"].as_array().expect("logs").clone();
            (logs.len() >= expected).then_some(logs)
        })
        .await
    }

    /// The same, however many there are, in pages of this size.
    pub(crate) async fn all_logs_by(&self, page_size: usize) -> Vec<Value> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/logs?page_size={page_size}&page_token={token}");
            let page = self.admin.get(&path).await.json();
            all.extend(page["logs"].as_array().expect("logs").iter().cloned());
            token = page["next_page_token"].as_str().expect("a token").to_owned();
            if token.is_empty() {
                return all;
            }
        }
    }

    /// The admin port, without a token.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Where nodes open their streams.
    pub(crate) fn node_url(&self) -> String {
        self.node_url_at(self.node_port)
    }

    fn node_url_at(&self, port: u16) -> String {
        let scheme = if self.certificate_life.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// The folder of the CA that signs the certificates of nodes.
    pub(crate) fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    /// A new join token, for the default environment unless `args` say otherwise.
    pub(crate) fn join_token(&self, args: &[&str]) -> String {
        let token = self.fgctl_json(&[&["nodes", "tokens", "create"][..], args].concat());
        token["token_value"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.token_file()).expect("a token").trim().to_owned()
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    fn token_file(&self) -> PathBuf {
        self.dir.path().join("owner-token")
    }

    /// The same, not yet started.
    pub(crate) fn fgctl_command(&self, args: &[&str]) -> Command {
        let mut command = program("fgctl");
        command
            .args(args)
            .env("FGCTL_ADDR", format!("http://127.0.0.1:{}", self.admin_port))
            .env("FGCTL_TOKEN", self.token())
            .env("XDG_CONFIG_HOME", self.dir.path());
        command
    }

    fn node(&self, number: usize, node_ports: &[u16], hours_off: i32, args: &[String]) -> Node {
        let urls: Vec<_> = node_ports.iter().map(|port| self.node_url_at(*port)).collect();
        let (proxy, ops) = (free_port(), free_port());
        let name = format!("node-{number}");
        let state_dir = self.dir.path().join(&name);
        let mut command = vec![
            format!("--listen=127.0.0.1:{proxy}"),
            format!("--ops-addr=127.0.0.1:{ops}"),
            format!("--node-id={name}"),
            format!("--control-plane={}", urls.join(",")),
            format!("--state-dir={}", state_dir.display()),
            "--workers=2".into(),
        ];
        let token_file = self.dir.path().join(format!("{name}.token"));
        if self.certificate_life.is_some() {
            std::fs::write(&token_file, self.join_token(&[])).expect("writes");
            command.push(format!("--join-token-file={}", token_file.display()));
        }
        command.extend(args.iter().cloned());
        command.extend(self.redis.as_ref().map(|redis| format!("--redis-url={}", redis.url())));
        let proxy_url = format!("http://127.0.0.1:{proxy}");
        let mut node = Node {
            proxy: Client::new(&proxy_url),
            proxy_url,
            ops: Client::new(format!("http://127.0.0.1:{ops}")),
            state_dir,
            token_file,
            process: None,
            command,
            variables: self.node_variables.clone(),
            disk: self.node_disk,
            hours_off,
            name,
        };
        node.start(self.dir.path());
        node
    }
}
