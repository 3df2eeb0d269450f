//! An OpenTelemetry collector that keeps the logs it takes, from whoever knows its token.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::free_port;

pub(crate) struct Collector {
    address: SocketAddr,
    kept: Kept,
    /// What it runs on, so that its connections end with it.
    runtime: Option<Runtime>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<LogRecord>>>);

impl Collector {
    /// The line of a file of headers that opens it.
    pub(crate) const HEADER: &str = "Authorization: Bearer of-the-collector\n";

    /// Not started yet.
    pub(crate) fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { address, kept: Kept::default(), runtime: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it, the first time or again.
    pub(crate) fn start(&mut self) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (address, kept) = (self.address, self.kept.clone());
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.expect("binds");
            let server = Server::builder().add_service(LogsServiceServer::new(kept));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("serves");
        });
        self.runtime = Some(runtime);
    }

    /// Ends it with all its connections, whatever is under way.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().expect("runs").shutdown_background();
    }

    /// What it took, in that order, by names of attributes that hold text.
    pub(crate) fn texts<const N: usize>(&self, names: [&str; N]) -> Vec<[String; N]> {
        let kept = self.kept.0.lock().expect("no panic");
        let text = |record: &LogRecord, name: &str| {
            let found = record.attributes.iter().find(|attribute| attribute.key == name);
            let value = found.and_then(|it| it.value.clone()).and_then(|it| it.value);
            match value {
                Some(Value::StringValue(text)) => text,
                other => panic!("{name} is {other:?}"),
            }
        };
        kept.iter().map(|record| names.map(|name| text(record, name))).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may not be waited for where a test runs.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl LogsService for Kept {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        if request.metadata().get("authorization").is_none_or(|it| it != "Bearer of-the-collector")
        {
            return Err(Status::unauthenticated("the token is missing"));
        }
        let mut kept = self.0.lock().expect("no panic");
        let resources = request.into_inner().resource_logs.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_logs);
        kept.extend(scopes.flat_map(|scope| scope.log_records));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
