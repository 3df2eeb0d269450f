//! Audit events to NATS JetStream, a message each.
//!
//! A message is done when a stream has acknowledged it. Its id is node, boot and number, by which a
//! stream drops what comes twice within its duplicate window. Which stream takes the subject, how
//! long it keeps events and on how many servers, is set in NATS.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, ServerAddr,
    jetstream::{
        self,
        context::{ContextBuilder, PublishAckFuture, PublishErrorKind},
        message::PublishMessage,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Events, Fault, Progress, Sink};

/// Messages sent and not acknowledged yet.
const UNDER_WAY: usize = 256;

/// How long a connection may take, and an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a node comes to JetStream.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Some servers of it; they know the others.
    pub servers: Vec<NatsServer>,
    /// The subject of all messages.
    pub subject: String,
    /// A file of credentials: read at each connection, so that new ones need no restart.
    pub credentials: Option<PathBuf>,
    /// The file of the certificates its own must be signed by; `None`: those the system trusts.
    pub ca: Option<PathBuf>,
}

/// A server, as `--audit-nats` says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatsServer(ServerAddr);

impl FromStr for NatsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What was given may hold a password, so no mistake repeats any of it.
        let mend = "is no URL of NATS: give one such as nats://host:4222, or tls://host:4222";
        let is_known = text.starts_with("nats://") || text.starts_with("tls://");
        let url = url::Url::parse(text).ok().filter(|url| is_known && url.has_host());
        let url = url.ok_or(mend)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user: write that into the file of --audit-nats-credentials".into());
        }
        ServerAddr::from_url(url).map(Self).map_err(|_| mend.into())
    }
}

impl NatsServer {
    /// Whether TLS is spoken there, whatever it asks for.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.tls_required()
    }

    /// Its name or address.
    pub(crate) fn host(&self) -> &str {
        self.0.host()
    }
}

/// What opens a server to a node.
enum Credentials {
    /// A user's JWT and the seed of its key, as `nsc` writes them.
    Jwt(SecretString),
    UserAndPassword(String, SecretString),
    Token(SecretString),
}

impl Credentials {
    fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        if text.contains("NATS USER JWT") {
            return Ok(Self::Jwt(text.into()));
        }
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(io::Error::other(
                "give a file that nsc wrote, user:password, or a token, in one line",
            ));
        }
        Ok(match text.split_once(':') {
            Some((user, password)) => Self::UserAndPassword(user.to_owned(), password.into()),
            None => Self::Token(text.into()),
        })
    }

    fn put_into(&self, options: ConnectOptions) -> io::Result<ConnectOptions> {
        match self {
            // What is wrong with it is not repeated: it could show the seed.
            Self::Jwt(text) => options.credentials(text.expose_secret()).map_err(|_| {
                io::Error::other("its JWT or seed can't be read: give a file as nsc writes it")
            }),
            Self::UserAndPassword(user, password) => {
                let password = password.expose_secret().to_owned();
                Ok(options.user_and_password(user.clone(), password))
            }
            Self::Token(token) => Ok(options.token(token.expose_secret().to_owned())),
        }
    }
}

/// Says what is wrong with a file of credentials, and nothing of what is in it.
pub(crate) fn check_credentials(path: &Path) -> Result<(), String> {
    let read = Credentials::read(path).and_then(|it| it.put_into(ConnectOptions::new()));
    read.map(drop).map_err(|fault| format!("{}: {fault}", path.display()))
}

/// The sink.
pub(super) struct JetStream {
    settings: NatsSettings,
    /// `None`: not connected.
    context: Option<jetstream::Context>,
}

impl JetStream {
    pub(super) fn new(settings: NatsSettings) -> Self {
        Self { settings, context: None }
    }

    async fn connect(&self) -> Result<jetstream::Context, Fault> {
        let NatsSettings { servers, credentials, ca, .. } = &self.settings;
        let mut options = ConnectOptions::new()
            .name("fastgate")
            .connection_timeout(PATIENCE)
            // What is lost is connected to again by us, who wait longer each time. It counts every
            // server that is tried.
            .max_reconnects(servers.len());
        if let Some(ca) = ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some(path) = credentials {
            let read = Credentials::read(path).and_then(|it| it.put_into(options));
            options = read.map_err(|fault| Fault::of(&path.display().to_string(), fault))?;
        }
        let addresses: Vec<_> = servers.iter().map(|server| server.0.clone()).collect();
        let client: Client =
            options.connect(addresses).await.map_err(|fault| told("can't be reached", fault))?;
        Ok(ContextBuilder::new().timeout(PATIENCE).max_ack_inflight(UNDER_WAY).build(client))
    }

    async fn publish(
        &self,
        context: &jetstream::Context,
        events: &Events,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let mut under_way = VecDeque::with_capacity(UNDER_WAY);
        let mut line = String::new();
        for (at, event) in events.from(progress.done) {
            if under_way.len() == UNDER_WAY {
                acknowledged(&mut under_way, progress).await?;
            }
            line.clear();
            events.write_line(at, event, &mut line);
            let message = PublishMessage::build().message_id(events.id(at));
            let message = message.payload(line.clone().into());
            match context.send_publish(self.settings.subject.clone(), message).await {
                Ok(ack) => under_way.push_back(ack),
                Err(fault) if fault.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    // All before it first, as events are done in their order.
                    while !under_way.is_empty() {
                        acknowledged(&mut under_way, progress).await?;
                    }
                    let id = events.id(at);
                    tracing::error!(
                        id,
                        bytes = line.len(),
                        "NATS takes no message as large as this audit event: raise max_payload"
                    );
                    progress.done += 1;
                    progress.refused += 1;
                }
                Err(fault) => return Err(told("can't be sent to", fault)),
            }
        }
        while !under_way.is_empty() {
            acknowledged(&mut under_way, progress).await?;
        }
        Ok(())
    }
}

impl Sink for JetStream {
    async fn send(&mut self, events: &Arc<Events>, progress: &mut Progress) -> Result<(), Fault> {
        let context = match self.context.take() {
            Some(context) => context,
            None => self.connect().await?,
        };
        // A connection that failed is not used again: what is left of it would be sent later.
        self.publish(&context, events, progress).await?;
        self.context = Some(context);
        Ok(())
    }
}

/// Waits for the oldest one.
async fn acknowledged(
    under_way: &mut VecDeque<PublishAckFuture>,
    progress: &mut Progress,
) -> Result<(), Fault> {
    let Some(ack) = under_way.pop_front() else { return Ok(()) };
    ack.await.map_err(|fault| match fault.kind() {
        PublishErrorKind::StreamNotFound => {
            Fault::new("no stream of JetStream takes the subject: create one, or set another")
        }
        _ => told("did not acknowledge", fault),
    })?;
    progress.done += 1;
    Ok(())
}

fn told(what: &str, fault: impl fmt::Display) -> Fault {
    Fault::of(&format!("NATS {what}"), fault)
}
