//! One control plane in this process, and a client that speaks both its languages.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use fastgate_control_plane::{Server, Settings};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A running control plane; ends when dropped.
pub(crate) struct Plane {
    pub(crate) address: String,
    /// Where nodes open their streams.
    pub(crate) node_address: String,
    pub(crate) token: String,
    pool: DescriptorPool,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// An answer of any kind with its body read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, settings| settings).await
    }

    /// The same with other settings, for which there is the folder of all its files.
    pub(crate) async fn start_with(change: impl FnOnce(&Path, Settings) -> Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = change(folder.path(), settings(&folder));
        let token_file = settings.bootstrap_token_file.clone().expect("a token file");
        let server = Server::build(settings).await.expect("a server");
        let address = server.addresses().admin.to_string();
        let node_address = server.addresses().node.to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.run(stop.clone()));
        let token = fs::read_to_string(token_file).expect("a token").trim().to_owned();
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        Self { address, node_address, token, pool, stop, task: Some(task), _folder: folder }
    }

    /// One REST call as the owner.
    pub(crate) async fn rest(&self, verb: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.send(verb, path, &[("authorization", &bearer)], body.into(), false).await
    }

    /// What a generated client sends as the owner.
    pub(crate) fn asked<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let bearer = format!("Bearer {}", self.token).parse().expect("a value");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// One gRPC call as the owner: `rpc` is such as `KeyService/GetKey`.
    pub(crate) async fn grpc(&self, rpc: &str, request: &Json) -> Result<Json, Status> {
        let (service, method) = rpc.split_once('/').expect("a service and a method");
        let service = self.pool.get_service_by_name(&format!("fastgate.admin.v1.{service}"));
        let service = service.expect("a service");
        let method = service.methods().find(|found| found.name() == method).expect("a method");
        let message = DynamicMessage::deserialize(method.input(), request).expect("a request");
        let answer = self.grpc_bytes(rpc, &message.encode_to_vec()).await;
        for headers in [&answer.headers, &answer.trailers] {
            if let Some(status) = Status::from_header_map(headers)
                && status.code() != tonic::Code::Ok
            {
                return Err(status);
            }
        }
        let reply = DynamicMessage::decode(method.output(), &answer.body[5..]).expect("a reply");
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(false)
            .skip_default_fields(false);
        Ok(reply.serialize_with_options(serde_json::value::Serializer, &options).expect("json"))
    }

    /// The same with bytes that need be no message.
    pub(crate) async fn grpc_bytes(&self, rpc: &str, message: &[u8]) -> Answer {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.len().try_into().expect("a short message"));
        frame.put_slice(message);
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let path = format!("/fastgate.admin.v1.{rpc}");
        self.send(Method::POST, &path, &headers, frame.freeze(), true).await
    }

    /// Any request, over HTTP/1.1 or h2c.
    pub(crate) async fn send(
        &self,
        verb: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        h2: bool,
    ) -> Answer {
        let mut request =
            Request::builder().method(verb).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client: Client<HttpConnector, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
        let request = request.body(Full::new(body)).expect("a request");
        let response: Response<_> = client.request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body");
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        }
    }

    /// Asks it to stop and says how long that took.
    pub(crate) async fn stop(mut self) -> Duration {
        let begun = Instant::now();
        self.stop.cancel();
        self.task.take().expect("a task").await.expect("no panic");
        begun.elapsed()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or(Json::Null)
    }

    pub(crate) fn grpc_status(&self) -> Status {
        Status::from_header_map(&self.headers)
            .or_else(|| Status::from_header_map(&self.trailers))
            .expect("a status")
    }
}

/// Settings of a control plane that keeps everything in a folder.
pub(crate) fn settings(folder: &TempDir) -> Settings {
    let database = folder.path().join("fastgate.db");
    let mut settings = Settings::new(format!("sqlite:{}", database.display()).into());
    settings.admin_addr = "127.0.0.1:0".parse().expect("an address");
    settings.node_addr = settings.admin_addr;
    settings.bootstrap_token_file = Some(folder.path().join("owner-token"));
    settings
}
