//! Whether the control plane can do its work, as gRPC clients and load balancers ask it.

use std::{sync::Arc, time::Duration};

use fastgate::FILE_DESCRIPTOR_SET;
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::Builder;

use crate::{store::Store, streams::EndsWith};

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_secs(5);

/// What gRPC clients are told of the services.
pub(crate) struct Health {
    reporter: HealthReporter,
    /// The services they may ask for; the empty name stands for all.
    services: Vec<String>,
}

/// Adds what is said about the services to the services: health and reflection. Their streams end
/// with `stop`. The database has just answered, so all is well at first.
pub(crate) async fn add_services(
    services: Routes,
    pool: &DescriptorPool,
    stop: &CancellationToken,
) -> Result<(Routes, Health), tonic_reflection::server::Error> {
    // Nodes' services are on another port.
    let served = pool.services().filter(|service| service.package_name().ends_with("admin.v1"));
    let served: Vec<_> = served.map(|service| service.full_name().to_owned()).collect();
    let reflection = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        served.iter().fold(builder, |builder, name| builder.with_service_name(name))
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let services = services
        .add_service(EndsWith { stop: stop.clone(), service: health })
        .add_service(EndsWith { stop: stop.clone(), service: reflection().build_v1()? })
        .add_service(EndsWith { stop: stop.clone(), service: reflection().build_v1alpha()? });
    let health = Health { reporter, services: [String::new()].into_iter().chain(served).collect() };
    health.say(ServingStatus::Serving).await;
    Ok((services, health))
}

impl Health {
    /// Keeps it up to date until `stop`, and then says that the end is near.
    pub(crate) async fn report(self, store: Arc<dyn Store>, stop: CancellationToken) {
        let follow = async {
            let mut said = ServingStatus::Serving;
            let mut tick = tokio::time::interval(INTERVAL);
            loop {
                tick.tick().await;
                let status = match store.takes_writes().await {
                    Ok(_) => ServingStatus::Serving,
                    Err(_) => ServingStatus::NotServing,
                };
                // Who watches is to hear of changes only.
                if status != said {
                    self.say(status).await;
                    said = status;
                }
            }
        };
        // A database that hangs must not hold up the end.
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow => {}
        }
        self.say(ServingStatus::NotServing).await;
    }

    async fn say(&self, status: ServingStatus) {
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
