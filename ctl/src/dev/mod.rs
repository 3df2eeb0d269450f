//! `fgctl dev`: a whole gateway in one process, on loopback, to try things out.
//!
//! ```text
//!   client ──► node (proxy) ──► demo upstream
//!                 ▲ config, audit
//!            control plane ──► SQLite in the data folder
//!                 ▲ gRPC, REST
//!        fgctl, curl, browser
//! ```
//!
//! Both planes are the real ones; only their surroundings are small: SQLite for Postgres, limits
//! counted in this process, an upstream that answers with what it was sent. The data folder keeps
//! everything, so a restart goes on where the last run ended. It also keeps the owner token and
//! the demo key in clear (mode 0600), which no other part of FastGate ever does.

mod data;
mod demo;
mod planes;
mod ready;
mod upstream;

use std::{io, time::Duration};

use fastgate::model::Id;
use fastgate::settings::log_filter;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::{
    data::DataDir,
    planes::{ControlPlane, Node},
    ready::{Ready, ReadyFile},
    upstream::DemoUpstream,
};
use crate::{
    cli::DevArgs,
    client::Client,
    context::{Connection, Surroundings},
    error::{DevError, Error},
    output::Output,
};

/// How long the planes may take to end once they were asked to.
const DRAIN: Duration = Duration::from_secs(8);

/// Runs until it is asked to stop.
pub(crate) fn run(
    args: DevArgs,
    around: &Surroundings,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let said = std::env::var("FASTGATE_LOG").ok();
    let filter = log_filter(said.as_deref(), "warn").map_err(DevError::Log)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .log_internal_errors(false);
    // Fails only where somebody has set up a log before, who then wants their own.
    let _ = log.with_writer(io::stderr).try_init();

    let data = DataDir::open(args.data_dir.clone(), around)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(DevError::System)?;
    let ended = runtime.block_on(run_until_asked(&args, &data, output));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn run_until_asked(
    args: &DevArgs,
    data: &DataDir,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DevError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DevError::System)?;
    let asked = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked);
    let ready_file = args.ready_file.as_deref().map(ReadyFile::clear);
    // What is dropped on the way, half started or not, is asked to stop by that.
    let gateway = tokio::select! {
        started = Gateway::start(args, ready_file.as_ref(), data, output) => started?,
        () = &mut asked => return Ok(()),
    };
    let ended = tokio::select! {
        ended = gateway.ended() => Err(ended.into()),
        () = &mut asked => Ok(()),
    };
    gateway.stop().await;
    ended
}

/// Everything that runs.
struct Gateway {
    _upstream: DemoUpstream,
    control_plane: ControlPlane,
    node: Node,
}

impl Gateway {
    /// Starts everything and says so once it serves.
    async fn start(
        args: &DevArgs,
        ready_file: Option<&ReadyFile<'_>>,
        data: &DataDir,
        output: &mut Output<'_>,
    ) -> Result<Self, Error> {
        let upstream = DemoUpstream::start().await.map_err(DevError::System)?;
        let control_plane = ControlPlane::start(data, args.admin_port).await?;
        let node = Node::start(data, args.proxy_port, control_plane.addresses.node).await?;

        let admin_token = data.token()?;
        let admin_url = format!("http://{}", control_plane.addresses.admin);
        let connection = Connection {
            addr: admin_url.clone(),
            token: Some(admin_token.clone()),
            ca_file: None,
            environment: Id::DEFAULT_ENVIRONMENT.into(),
            environment_is_explicit: true,
        };
        let client = Client::connect(&connection, ready::WITHIN).await?;
        let key = demo::prepare(&client, data, upstream.address).await?;
        let ready = Ready {
            proxy_url: format!("http://{}", node.addresses.proxy),
            admin_url,
            admin_token: &admin_token,
            api_key: &key.value,
        };
        ready.wait_for_node(node.addresses.ops).await?;
        if let Err(last) = ready.wait_for_demo().await {
            output.remark(&format!("the demo does not answer: {last}"))?;
        }
        if let Some(file) = ready_file {
            file.write(&ready)?;
        }
        // Whoever closed the output wants no greeting, but still wants the gateway.
        let _ = output.text(&greeting(&ready, data)).and_then(|()| output.flush());
        Ok(Self { _upstream: upstream, control_plane, node })
    }

    /// Waits until a plane ends by itself.
    async fn ended(&self) -> DevError {
        tokio::select! {
            () = self.control_plane.ended() => DevError::Ended("the control plane"),
            () = self.node.ended() => DevError::Ended("the node"),
        }
    }

    /// Ends both planes: the node first, so that it can still ship what it has to say.
    async fn stop(self) {
        let stopped = async {
            self.node.stop().await;
            self.control_plane.stop().await;
        };
        if tokio::time::timeout(DRAIN, stopped).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
    }
}

fn greeting(ready: &Ready<'_>, data: &DataDir) -> String {
    let key = ready.api_key.expose_secret();
    let program = std::env::current_exe();
    let program = program.map_or_else(|_| "fgctl".into(), |path| path.display().to_string());
    format!(
        "\
FastGate is running on this machine.

  proxy        {proxy}
  admin        {admin}  (gRPC and REST)
  admin token  {token}
  API key      {key}

Try it:
  curl -H 'X-API-Key: {key}' {demo}
  {program} --addr {admin} --token-file '{token_file}' routes list

All data, this token and this key are kept in {folder} (only fgctl dev keeps secrets in clear).
Ctrl-C ends it.
",
        proxy = ready.proxy_url,
        admin = ready.admin_url,
        token = ready.admin_token.expose_secret(),
        demo = ready.demo_url(),
        token_file = data.token_file().display(),
        folder = data.path().display(),
    )
}
