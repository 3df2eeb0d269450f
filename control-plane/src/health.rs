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

/// Adds what is said about the services to the services: health and reflection. Their streams end
/// with `stop`.
pub(crate) fn add_services(
    services: Routes,
    pool: &DescriptorPool,
    stop: &CancellationToken,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let reflection = || {
        let builder =
            Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        // Nodes' services are on another port.
        let served = pool.services().filter(|service| service.package_name().ends_with("admin.v1"));
        served.fold(builder, |builder, service| builder.with_service_name(service.full_name()))
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let services = services
        .add_service(EndsWith { stop: stop.clone(), service: health })
        .add_service(EndsWith { stop: stop.clone(), service: reflection().build_v1()? })
        .add_service(EndsWith { stop: stop.clone(), service: reflection().build_v1alpha()? });
    Ok((services, reporter))
}

/// Keeps the health service up to date until `stop`, and then says that the end is near.
pub(crate) async fn report(
    reporter: HealthReporter,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) {
    let follow = async {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            let status = match store.ping().await {
                Ok(()) => ServingStatus::Serving,
                Err(_) => ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
        }
    };
    // A database that hangs must not hold up the end.
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow => {}
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
}
