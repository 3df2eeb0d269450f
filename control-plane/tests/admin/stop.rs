//! A control plane asked to stop leaves at once, whatever is open, and owes nobody an answer.

use std::{any::Any, time::Duration};

use bytes::Bytes;
use fastgate::node::v1::{
    Hello, NodeMessage, audit_ingest_client::AuditIngestClient,
    config_stream_client::ConfigStreamClient, control_message::Body as Sent, node_message::Body,
};
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::plane::Plane;

/// What an HTTP/2 client begins with: the preface and empty settings (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Something open, for as long as it is held.
type Open = Box<dyn Any + Send>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_leaves_at_once_whatever_is_open() {
    for what in [
        "a health watch",
        "an idle reflection stream",
        "half a request head",
        "half a request head after an answer",
        "a preface alone on the admin port",
        "a preface alone on the node port",
        "half a preface",
        "a config stream without a hello",
        "nodes that do not read their snapshot",
        "an idle audit stream",
    ] {
        let plane = Plane::start().await;
        let held = open(&plane, what).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let took = plane.stop().await;
        println!("{what}: {took:?}");
        assert!(took < Duration::from_secs(1), "{what}: {took:?}");
        drop(held);
    }
}

async fn open(plane: &Plane, what: &str) -> Open {
    let (admin, node) = (&plane.address, &plane.node_address);
    match what {
        "a health watch" => Box::new(watch(plane).await),
        "an idle reflection stream" => reflection(plane).await,
        "half a request head" => raw(admin, b"POST /admin/keys HTTP/1.1\r\nhost: x\r\n").await,
        "half a request head after an answer" => {
            let mut stream = TcpStream::connect(admin).await.expect("connects");
            stream
                .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /he")
                .await
                .expect("sent");
            assert!(stream.read(&mut [0; 1024]).await.expect("an answer") > 0);
            Box::new(stream)
        }
        "a preface alone on the admin port" => raw(admin, PREFACE).await,
        "a preface alone on the node port" => raw(node, PREFACE).await,
        "half a preface" => raw(node, &PREFACE[..10]).await,
        "a config stream without a hello" => {
            let (outbound, messages) = mpsc::channel::<NodeMessage>(1);
            let mut client = ConfigStreamClient::new(channel(node).await);
            let stream = client.sync(ReceiverStream::new(messages)).await.expect("a stream");
            Box::new((outbound, stream))
        }
        "nodes that do not read their snapshot" => {
            apply_much(plane).await;
            let mut streams = Vec::new();
            for n in 0..5 {
                streams.push(node_that_does_not_read(plane, n).await);
            }
            Box::new(streams)
        }
        "an idle audit stream" => {
            let (outbound, batches) = mpsc::channel(1);
            let mut client = AuditIngestClient::new(channel(node).await);
            let stream = client.push(ReceiverStream::new(batches)).await.expect("a stream");
            Box::new((outbound, stream))
        }
        what => panic!("{what}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_the_health_hears_of_the_end() {
    let plane = Plane::start().await;
    let mut watch = watch(&plane).await;
    let stopped = tokio::spawn(plane.stop());
    let last = watch.message().await.expect("a message").expect("a message");
    assert_eq!(last.status().as_str_name(), "NOT_SERVING");
    let end = watch.message().await.expect_err("the end");
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "the control plane stops"));
    stopped.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_under_way_reaches_a_slow_client_of_http_2() {
    let plane = Plane::start().await;
    apply_much(&plane).await;
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(65_535)
        .build_http();
    let request = http::Request::get(format!("http://{}/admin/config/export", plane.address))
        .header("authorization", format!("Bearer {}", plane.token))
        .body(Full::default());
    let answer = client.request(request.expect("a request")).await.expect("an answer");
    let length: usize =
        answer.headers()["content-length"].to_str().expect("text").parse().expect("a number");

    let stopped = tokio::spawn(plane.stop());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let body = answer.into_body().collect().await.expect("all of it").to_bytes();
    assert_eq!(body.len(), length);
    let took = stopped.await.expect("no panic");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_under_way_reaches_a_slow_client() {
    let plane = Plane::start().await;
    apply_much(&plane).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("set");
    let address = plane.address.parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("connects");
    let request = format!(
        "GET /admin/config/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        plane.token
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await.expect("an answer");
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (names, begun) = head.split_once("\r\n\r\n").expect("a whole head");
    let length = names.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().expect("a number");

    let stopped = tokio::spawn(plane.stop());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the rest, then the end");
    assert_eq!(begun.len() + rest.len(), length, "all of {length} bytes");
    let took = stopped.await.expect("no panic");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

async fn raw(address: &str, bytes: &[u8]) -> Open {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(bytes).await.expect("sent");
    Box::new(stream)
}

async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.initial_stream_window_size(65_535).connect().await.expect("connects")
}

/// A health watch that has said once that all is well.
async fn watch(plane: &Plane) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let mut client = HealthClient::new(channel(&plane.address).await);
    loop {
        let stream = client.watch(HealthCheckRequest::default()).await.expect("a stream");
        let mut stream = stream.into_inner();
        let first = stream.message().await.expect("a message").expect("a message");
        if first.status().as_str_name() == "SERVING" {
            return stream;
        }
    }
}

async fn reflection(plane: &Plane) -> Open {
    let (outbound, asked) = mpsc::channel(1);
    let list = MessageRequest::ListServices(String::new());
    let list = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    outbound.send(list).await.expect("open");
    let request = plane.asked(ReceiverStream::new(asked));
    let mut client = ServerReflectionClient::new(channel(&plane.address).await);
    let stream = client.server_reflection_info(request).await.expect("a stream");
    let mut stream = stream.into_inner();
    stream.message().await.expect("an answer").expect("an answer");
    Box::new((outbound, stream))
}

/// A stream that reads no further than the beginning of its snapshot.
async fn node_that_does_not_read(plane: &Plane, n: usize) -> Open {
    let (outbound, messages) = mpsc::channel(1);
    let hello = Hello {
        node_id: format!("n{n}"),
        boot_id: "b".into(),
        version: "0".into(),
        environment: "default".into(),
        ..Hello::default()
    };
    outbound.send(NodeMessage { body: Some(Body::Hello(hello)) }).await.expect("open");
    let mut client = ConfigStreamClient::new(channel(&plane.node_address).await);
    let stream = client.sync(ReceiverStream::new(messages)).await.expect("a stream");
    let mut stream = stream.into_inner();
    loop {
        let message = stream.message().await.expect("a message").expect("a message");
        if matches!(message.body, Some(Sent::SnapshotBegin(_))) {
            return Box::new((outbound, stream));
        }
    }
}

/// Some ten megabytes of routes.
async fn apply_much(plane: &Plane) {
    let permissions: Vec<_> = (0..64).map(|n| format!("p{n:02}{}", "x".repeat(150))).collect();
    let routes: Vec<_> = (0..1000)
        .map(|n| {
            json!({
                "route_id": format!("r{n}"),
                "path": format!("/r{n}"),
                "targets": [{"url": "http://127.0.0.1:1"}],
                "required_permissions": permissions,
            })
        })
        .collect();
    let document = json!({ "routes": routes }).to_string();
    let answer = plane.rest(Method::POST, "/admin/config/apply", document).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}
