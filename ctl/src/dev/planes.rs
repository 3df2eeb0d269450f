//! The two planes, each with whoever runs it. Dropping one asks it to stop.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use fastgate::model::Id;
use fastgate_control_plane as control_plane;
use fastgate_data_plane as data_plane;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::data::DataDir;
use crate::error::DevError;

/// How long requests under way may go on after Ctrl-C.
const GRACE: Duration = Duration::from_secs(3);

/// The control plane, as a task.
pub(super) struct ControlPlane {
    /// Where it listens.
    pub(super) addresses: control_plane::Addresses,
    /// Cancelled once it has ended, in whatever way.
    gone: CancellationToken,
    stop: DropGuard,
}

impl ControlPlane {
    /// Starts it on its database.
    pub(super) async fn start(data: &DataDir, admin_port: u16) -> Result<Self, DevError> {
        let mut settings = control_plane::Settings::new(data.database_url());
        settings.admin_addr = loopback(admin_port);
        settings.node_addr = loopback(0);
        settings.bootstrap_token_file = Some(data.token_file());
        let server = control_plane::Server::build(settings).await?;
        let addresses = server.addresses();
        let stop = CancellationToken::new();
        let gone = CancellationToken::new();
        let running = gone.clone().drop_guard();
        let run = server.run(stop.clone());
        tokio::spawn(async move {
            let _running = running;
            run.await;
        });
        Ok(Self { addresses, gone, stop: stop.drop_guard() })
    }

    /// Waits for its end, which comes only when something is wrong.
    pub(super) async fn ended(&self) {
        self.gone.cancelled().await;
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        drop(self.stop);
        self.gone.cancelled().await;
    }
}

/// The node, on a thread of its own: it makes its own runtimes and blocks.
pub(super) struct Node {
    /// Where it listens.
    pub(super) addresses: data_plane::Addresses,
    /// Cancelled once it has ended, in whatever way.
    gone: CancellationToken,
    stop: DropGuard,
}

impl Node {
    /// Starts it against a control plane.
    pub(super) async fn start(
        data: &DataDir,
        proxy_port: u16,
        control_plane: SocketAddr,
    ) -> Result<Self, DevError> {
        let settings = settings(data, proxy_port, control_plane)?;
        let stop = CancellationToken::new().drop_guard();
        let (built, is_built) = oneshot::channel();
        let gone = CancellationToken::new();
        let running = gone.clone().drop_guard();
        let asked = stop.token().clone();
        thread::Builder::new().name("node".into()).spawn(move || {
            let _running = running;
            let server = match data_plane::Server::build(settings) {
                Ok(server) => server,
                Err(fault) => {
                    let _ = built.send(Err(fault));
                    return;
                }
            };
            let _ = built.send(Ok(server.addresses()));
            if let Err(fault) = server.run(asked) {
                tracing::error!(%fault, "the node has ended");
            }
        })?;
        let addresses = is_built.await.map_err(|_| DevError::Ended("the node"))??;
        Ok(Self { addresses, gone, stop })
    }

    /// Waits for its end, which comes only when something is wrong.
    pub(super) async fn ended(&self) {
        self.gone.cancelled().await;
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        drop(self.stop);
        self.gone.cancelled().await;
    }
}

fn settings(
    data: &DataDir,
    proxy_port: u16,
    control_plane: SocketAddr,
) -> Result<data_plane::Settings, DevError> {
    let node_id = Id::parse("dev").map_err(std::io::Error::other)?;
    let mut settings = data_plane::Settings::new(Id::default_environment(), node_id);
    settings.listen = loopback(proxy_port);
    settings.ops_addr = loopback(0);
    let uri = format!("http://{control_plane}").parse().map_err(std::io::Error::other)?;
    settings.control_planes = vec![uri];
    settings.state_dir = Some(data.node_state());
    settings.grace_time = GRACE;
    Ok(settings)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::context::Surroundings;

    fn data(folder: &tempfile::TempDir) -> DataDir {
        let around = Surroundings { token: None, config_home: None, data_home: None };
        DataDir::open(Some(folder.path().into()), &around).expect("opened")
    }

    #[tokio::test]
    async fn a_node_without_its_control_plane_ends_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = data(&folder);
        let node = Node::start(&data, 0, loopback(1)).await.expect("started");
        assert_ne!(node.addresses.proxy.port(), 0);
        assert!(tokio::time::timeout(Duration::from_millis(50), node.ended()).await.is_err());
        let asked = Instant::now();
        node.stop().await;
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_the_flag_of_dev() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let fault = Node::start(&data(&folder), port, loopback(1)).await.err().expect("refused");
        assert!(fault.to_string().contains(&format!("127.0.0.1:{port}")), "{fault}");
        assert!(fault.mend().is_some_and(|mend| mend.contains("--proxy-port")));
    }
}
