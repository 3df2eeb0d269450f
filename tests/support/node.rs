//! One data plane of a gateway.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use http::{Method, StatusCode};

use super::{
    client::{Answer, Client},
    clock, eventually,
    process::{Process, program},
};

/// One data plane.
pub(crate) struct Node {
    pub(crate) proxy: Client,
    pub(crate) proxy_url: String,
    pub(crate) ops: Client,
    pub(crate) state_dir: PathBuf,
    /// What it joins with, where nodes show certificates.
    pub(crate) token_file: PathBuf,
    pub(super) process: Option<Process>,
    pub(super) command: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) hours_off: i32,
    /// How large the disk of its state directory is, as `mount` is told; it goes with the process.
    pub(super) disk: Option<&'static str>,
    pub(super) name: String,
}

impl Node {
    pub(crate) fn start(&mut self, dir: &Path) {
        let mut command = program("fastgate-data-plane");
        if let Some(size) = self.disk {
            command = on_small_disk(&self.state_dir, size, &command);
        }
        command.args(&self.command).envs(clock::off_by(self.hours_off));
        command.envs(self.variables.iter().cloned());
        self.process = Some(Process::start(&self.name, command, dir));
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) {
        eventually("the node is ready", async || {
            let answer = self.ops.try_send(Method::GET, "/ready", "").await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Waits until the state this node would start from holds an object: it is saved a moment after
    /// it is in force.
    pub(crate) async fn has_on_disk(&self, namespace: &str, id: &str) {
        let file = self.state_dir.join(format!("{namespace}.state"));
        eventually("the state is on disk", async || {
            let saved = std::fs::read(&file).ok()?;
            saved.windows(id.len()).any(|window| window == id.as_bytes()).then_some(())
        })
        .await;
    }

    /// A client of the proxy that sends this key.
    pub(crate) fn with_key(&self, secret: &str) -> Client {
        Client::new(&self.proxy_url).with("x-api-key", secret)
    }

    /// The value of one series; 0 where there is none yet.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        series_in(&self.ops.get("/metrics").await, series)
    }

    /// Waits until its process has ended, however that came.
    pub(crate) async fn has_ended(&mut self) {
        let process = self.process.as_mut().expect("runs");
        eventually("the node has ended", async || process.has_ended().then_some(())).await;
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("runs").kill();
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("runs")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A command on a disk of its own, which nobody else sees: that takes no rights but where a machine
/// forbids namespaces.
fn on_small_disk(dir: &Path, size: &str, command: &Command) -> Command {
    const MOUNT: &str = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
    std::fs::create_dir_all(dir).expect("a folder");
    let mut on_disk = Command::new("unshare");
    on_disk.args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", size]).arg(dir);
    on_disk.arg(command.get_program()).args(command.get_args());
    on_disk
}

/// The value of one series in what `/metrics` answers; 0 where there is none yet.
pub(super) fn series_in(answer: &Answer, series: &str) -> f64 {
    let text = std::str::from_utf8(&answer.body).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}
