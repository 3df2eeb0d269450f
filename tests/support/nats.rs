//! A private NATS server with JetStream, and one stream in it.

use std::{process::Command, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
    stream,
};
use futures_util::TryStreamExt as _;

use super::{command::free_port, eventually, process::Process};

pub(crate) struct Nats {
    process: Option<Process>,
    port: u16,
    dir: tempfile::TempDir,
}

/// A message as the stream holds it.
pub(crate) struct Message {
    /// `Nats-Msg-Id`.
    pub(crate) id: String,
    pub(crate) payload: String,
}

impl Nats {
    pub(crate) const SUBJECT: &str = "fastgate.audit";

    /// Not started yet.
    pub(crate) fn new() -> Self {
        let found = Command::new("nats-server").arg("--version").output();
        assert!(found.is_ok(), "NATS is not installed: apt-get install nats-server");
        let dir = tempfile::tempdir().expect("a folder");
        Self { process: None, port: free_port(), dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it, the first time or again, with what its stream has.
    pub(crate) async fn start(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nats-server", "-a", "127.0.0.1", "-js", "-p"]);
        command.arg(self.port.to_string()).arg("-sd").arg(self.dir.path());
        self.process = Some(Process::start("nats", command, self.dir.path()));
        eventually("the stream is there", async || {
            let context = self.context().await?;
            let config = stream::Config {
                name: "audit".into(),
                subjects: vec![Self::SUBJECT.into()],
                ..stream::Config::default()
            };
            context.get_or_create_stream(config).await.ok()
        })
        .await;
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("runs").kill();
    }

    /// All messages of the stream, the oldest first.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        let context = self.context().await.expect("connects");
        let mut stream = context.get_stream("audit").await.expect("a stream");
        let count = stream.info().await.expect("its state").state.messages;
        let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let mut found = Vec::new();
        while (found.len() as u64) < count {
            let batch = consumer.fetch().max_messages(500).expires(Duration::from_secs(2));
            let batch = batch.messages().await.expect("messages");
            let messages: Vec<_> = batch.try_collect().await.expect("messages");
            found.extend(messages.iter().map(|message| {
                let headers = message.headers.as_ref().expect("headers");
                let id = headers.get("Nats-Msg-Id").expect("an id").to_string();
                let payload = String::from_utf8(message.payload.to_vec()).expect("text");
                Message { id, payload }
            }));
        }
        found
    }

    async fn context(&self) -> Option<jetstream::Context> {
        async_nats::connect(self.url()).await.ok().map(jetstream::new)
    }
}
