//! What gRPC clients are told of the services without calling them.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::plane::Plane;

const SERVICES: [&str; 13] = [
    "Access",
    "Config",
    "Environment",
    "Key",
    "Limit",
    "Log",
    "Metrics",
    "Node",
    "Plan",
    "Rollout",
    "Route",
    "Status",
    "Upstream",
];

fn name(service: &str) -> String {
    format!("fastgate.admin.v1.{service}Service")
}

async fn channel(plane: &Plane) -> Channel {
    let address = format!("http://{}", plane.address);
    Channel::from_shared(address).expect("a URL").connect().await.expect("a connection")
}

#[tokio::test]
async fn health_is_told_of_every_service() {
    let plane = Plane::start().await;
    let mut client = HealthClient::new(channel(&plane).await);
    for service in SERVICES.map(name).iter().chain([&String::new()]) {
        let answer = client.check(HealthCheckRequest { service: service.clone() }).await;
        let status = answer.expect(service).into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING", "{service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "nope".into() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served() {
    let plane = Plane::start().await;
    let (outbound, asked) = tokio::sync::mpsc::channel(1);
    let list = MessageRequest::ListServices(String::new());
    let list = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    outbound.send(list).await.expect("open");
    let request = plane.asked(ReceiverStream::new(asked));
    let mut client = ServerReflectionClient::new(channel(&plane).await);
    let stream = client.server_reflection_info(request).await.expect("a stream");
    let answer = stream.into_inner().message().await.expect("an answer").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list");
    };
    let mut listed: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    listed.sort();
    let served = SERVICES.map(name).into_iter().chain(["grpc.health.v1.Health".into()]);
    assert_eq!(listed, served.collect::<Vec<_>>());
}
