//! The kinds of Redis there are, and how a worker connects to each.

use std::{path::Path, time::Duration};

use fastgate::settings::Mistakes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, TlsCertificates,
    TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::address::{Kind, RedisSettings, Watched, is_tls};
use crate::ca;

/// Calls of one worker under way to one server; further ones wait for a place, within their time.
const CALLS: usize = 1024;

/// How long one server may take to be connected to, and to say something about the cluster. Where
/// it is down, others are asked after it within the same try.
const SERVER_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a call is sent once more within a cluster: to where keys moved, to where they are
/// moving, and when they have.
const CLUSTER_RETRIES: u32 = 5;

/// Milliseconds between them, at least and at most: all have their place in the time of a call.
const CLUSTER_PAUSE: (u64, u64) = (1, 5);

/// What limits are counted in.
#[derive(Clone)]
pub(in crate::limits) enum Server {
    One(Client),
    /// Who is the master is asked at each connection.
    Watched {
        watched: Watched,
        certificates: Option<TlsCertificates>,
    },
    Cluster(Box<ClusterClient>),
}

impl Server {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(in crate::limits) fn new(settings: &RedisSettings) -> Result<Self, Mistakes> {
        let certificates = settings.ca.as_deref().map(certificates).transpose()?;
        Self::of(settings.address.0.clone(), certificates)
            .map_err(|fault| Mistakes::one(format!("--redis-url can't be used: {fault}")))
    }

    fn of(kind: Kind, certificates: Option<TlsCertificates>) -> RedisResult<Self> {
        Ok(match (kind, certificates) {
            (Kind::One(server), None) => Self::One(Client::open(server)?),
            (Kind::One(server), Some(certificates)) => {
                Self::One(Client::build_with_tls(server, certificates)?)
            }
            (Kind::Watched(watched), certificates) => Self::Watched { watched, certificates },
            (Kind::Cluster(servers), certificates) => {
                let cluster = ClusterClientBuilder::new(servers)
                    .connection_timeout(SERVER_TIMEOUT)
                    .response_timeout(SERVER_TIMEOUT)
                    .retries(CLUSTER_RETRIES)
                    .min_retry_wait(CLUSTER_PAUSE.0)
                    .max_retry_wait(CLUSTER_PAUSE.1)
                    .connection_concurrency_limit(CALLS);
                let cluster = match certificates {
                    Some(certificates) => cluster.certs(certificates),
                    None => cluster,
                };
                Self::Cluster(Box::new(cluster.build()?))
            }
        })
    }

    /// Connects to whoever counts at the moment.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(SERVER_TIMEOUT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(CALLS)
            .set_concurrency_limit(CALLS);
        Ok(match self {
            Self::One(client) => {
                let one = client.get_multiplexed_async_connection_with_config(&config).await?;
                Connection::One(one)
            }
            Self::Watched { watched, certificates } => {
                let mut client = client_of(watched, certificates.as_ref())?;
                Connection::One(client.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

fn client_of(
    watched: &Watched,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses: Vec<_> = watched.sentinels.iter().map(|one| one.addr().clone()).collect();
    let master = SentinelServerType::Master;
    let mut client = SentinelClientBuilder::new(addresses, &watched.master, master)?
        .set_client_to_redis_db(watched.login.db());
    if let Some(user) = watched.login.username() {
        client = client.set_client_to_redis_username(user);
    }
    if let Some(password) = watched.login.password() {
        client = client.set_client_to_redis_password(password);
    }
    if let Some(own) = watched.sentinels.first().map(|one| one.redis_settings()) {
        if let Some(user) = own.username() {
            client = client.set_client_to_sentinel_username(user);
        }
        if let Some(password) = own.password() {
            client = client.set_client_to_sentinel_password(password);
        }
    }
    if watched.sentinels.iter().any(is_tls) {
        client = client.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        client = client
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates.clone());
    }
    client.build()
}

/// The certificates that servers' own must be signed by.
fn certificates(path: &Path) -> Result<TlsCertificates, Mistakes> {
    let pem = ca::read(path).map_err(|fault| Mistakes::one(format!("--redis-ca: {fault}")))?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) })
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    /// To all servers of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(all) => all.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(all) => all.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(all) => all.get_db(),
        }
    }
}
