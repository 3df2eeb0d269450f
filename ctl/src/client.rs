//! The connection to a control plane, and the clients that use it.

use std::time::Duration;

use fastgate::admin::v1::{
    access_service_client::AccessServiceClient, config_service_client::ConfigServiceClient,
    environment_service_client::EnvironmentServiceClient, key_service_client::KeyServiceClient,
    limit_service_client::LimitServiceClient, log_service_client::LogServiceClient,
    metrics_service_client::MetricsServiceClient, node_service_client::NodeServiceClient,
    plan_service_client::PlanServiceClient, rollout_service_client::RolloutServiceClient,
    route_service_client::RouteServiceClient, status_service_client::StatusServiceClient,
    upstream_service_client::UpstreamServiceClient,
};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    context::Connection,
    endpoint::{endpoint, unreachable},
    error::Error,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer taken: an export of many thousand routes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What sends requests with the token.
pub(crate) type Transport = InterceptedService<Channel, Bearer>;

/// A connected control plane.
#[derive(Clone)]
pub(crate) struct Client {
    transport: Transport,
    environment: String,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(to: &Connection, timeout: Duration) -> Result<Self, Error> {
        let endpoint = endpoint(&to.addr, to.ca_file.as_deref())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT.min(timeout)).timeout(timeout);
        let channel = endpoint.connect().await.map_err(|fault| unreachable(&to.addr, &fault))?;
        let bearer = Bearer::new(to.token.as_ref())?;
        Ok(Self {
            transport: InterceptedService::new(channel, bearer),
            environment: to.environment.clone(),
        })
    }

    /// The environment to work in.
    pub(crate) fn environment(&self) -> String {
        self.environment.clone()
    }

    /// Keys.
    pub(crate) fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Routes.
    pub(crate) fn routes(&self) -> RouteServiceClient<Transport> {
        RouteServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Upstreams.
    pub(crate) fn upstreams(&self) -> UpstreamServiceClient<Transport> {
        UpstreamServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Plans.
    pub(crate) fn limits(&self) -> LimitServiceClient<Transport> {
        LimitServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn plans(&self) -> PlanServiceClient<Transport> {
        PlanServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Environments.
    pub(crate) fn environments(&self) -> EnvironmentServiceClient<Transport> {
        EnvironmentServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Rollouts.
    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Transport> {
        RolloutServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Nodes.
    pub(crate) fn nodes(&self) -> NodeServiceClient<Transport> {
        NodeServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The control plane itself.
    pub(crate) fn status(&self) -> StatusServiceClient<Transport> {
        StatusServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The audit log.
    pub(crate) fn logs(&self) -> LogServiceClient<Transport> {
        LogServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// The audit log, added up.
    pub(crate) fn metrics(&self) -> MetricsServiceClient<Transport> {
        MetricsServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Config documents.
    pub(crate) fn config(&self) -> ConfigServiceClient<Transport> {
        ConfigServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Admin tokens.
    pub(crate) fn access(&self) -> AccessServiceClient<Transport> {
        AccessServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

/// Puts the admin token on every request.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: Option<&SecretString>) -> Result<Self, Error> {
        let Some(token) = token else {
            return Ok(Self(None));
        };
        let value = format!("Bearer {}", token.expose_secret());
        let mut value: MetadataValue<Ascii> = value.parse().map_err(|_| Error::Setting {
            what: "the admin token".into(),
            fault: "holds characters no token has: is it the right file?".into(),
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_names_the_address_and_the_mend() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = format!("http://{}", free.local_addr().expect("an address"));
        drop(free);
        let to = Connection {
            addr: addr.clone(),
            token: None,
            ca_file: None,
            environment: "default".into(),
            environment_is_explicit: false,
        };
        let error = Client::connect(&to, Duration::from_secs(1)).await.err().expect("refused");
        let report = error.report();
        assert!(report.starts_with(&format!("error: can't reach the control plane at {addr}: ")));
        assert!(report.contains("Connection refused") && report.contains("--addr"), "{report}");
    }
}
