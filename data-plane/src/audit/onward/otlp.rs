//! Audit events to an OpenTelemetry collector, over gRPC, as logs.
//!
//! Names of attributes are those of the semantic conventions where there are such; the others begin
//! with `fastgate.`. `log.record.uid` is node, boot and number: two records with the same are one.

mod headers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use fastgate::{
    admin::v1::{LogEvent, RecordedBody, RecordedHeader},
    escape::{escape, is_unsafe},
};
use http::Uri;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use prost::Message as _;
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tonic_types::StatusExt as _;

pub(crate) use self::headers::check_headers;
use super::{Events, Fault, Progress, Sink};
use crate::{
    ca,
    dial::{self, SILENCE},
    identity::Identity,
};

/// Records in a request: collectors take 4 MiB of them unless told otherwise.
const RECORDS: usize = 512;

/// The same in bytes, as records may be long.
const BYTES: usize = 2 << 20;

/// How a node comes to a collector.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where it takes gRPC.
    pub url: Uri,
    /// The file of the certificates its own must be signed by; `None`: those the system trusts.
    pub ca: Option<PathBuf>,
    /// A file of what it wants to be told with every call: read at each connection, so that a new token
    /// needs no restart.
    pub headers: Option<PathBuf>,
}

/// The sink.
pub(super) struct Collector {
    settings: OtlpSettings,
    /// `None`: not connected.
    connection: Option<Connection>,
}

/// A connection, and what is told with every call over it.
struct Connection {
    client: LogsServiceClient<Channel>,
    headers: MetadataMap,
}

impl Collector {
    pub(super) fn new(settings: OtlpSettings) -> Self {
        Self { settings, connection: None }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let OtlpSettings { url, ca, headers } = &self.settings;
        let headers = match headers {
            Some(path) => headers::read(path)
                .map_err(|fault| Fault::of(&path.display().to_string(), fault))?,
            None => MetadataMap::new(),
        };
        let mut endpoint = dial::endpoint(url);
        if url.scheme_str() == Some("https") {
            let mut tls = ClientTlsConfig::new();
            tls = match ca {
                Some(path) => {
                    let pem = ca::read(path).map_err(Fault::new)?;
                    tls.ca_certificate(Certificate::from_pem(pem))
                }
                None => tls.with_native_roots(),
            };
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|fault| Fault::of("can't speak TLS", dial::innermost(&fault)))?;
        }
        let channel = dial::connect_to(&endpoint).await;
        channel
            .map(|channel| Connection { client: LogsServiceClient::new(channel), headers })
            .map_err(|fault| Fault::of("the collector can't be reached", fault))
    }
}

impl Sink for Collector {
    async fn send(&mut self, events: &Arc<Events>, progress: &mut Progress) -> Result<(), Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut most = RECORDS;
        while progress.done < events.len() {
            let (request, records) = request(events, progress.done, most);
            let mut request = Request::new(request);
            request.metadata_mut().clone_from(&connection.headers);
            let answer = timeout(SILENCE, connection.client.export(request)).await;
            let answer = answer.map_err(|_| Fault::new("the collector does not answer"))?;
            match answer {
                Ok(answer) => {
                    if let Some(partial) = answer.into_inner().partial_success {
                        progress.refused += refused(&partial, records);
                    }
                }
                // It is too large, or one record in it is bad: its halves are tried.
                Err(status) if is_final(&status) && records > 1 => {
                    most = records / 2;
                    continue;
                }
                Err(status) if is_final(&status) => {
                    let (fault, id) = (dial::refusal(&status), events.id(progress.done));
                    tracing::error!(fault, id, "the collector refuses an audit event");
                    progress.refused += 1;
                }
                Err(status) => return Err(away(&status)),
            }
            progress.done += records;
            most = (2 * records).min(RECORDS);
        }
        self.connection = Some(connection);
        Ok(())
    }
}

/// Whether a collector that refuses a request now will do so later. One that is short of something for
/// a while says when to come again (OTLP specification, "OTLP/gRPC Throttling"): without that, the
/// request is larger than it takes.
fn is_final(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_none(),
        _ => false,
    }
}

fn away(status: &Status) -> Fault {
    let pause = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let fault = Fault::of("the collector refused", dial::refusal(status));
    Fault { pause: pause.unwrap_or_default(), ..fault }
}

/// How many records a collector refused while it took the others. It must not get them again.
fn refused(partial: &ExportLogsPartialSuccess, records: usize) -> u64 {
    let refused = u64::try_from(partial.rejected_log_records).unwrap_or(0).min(records as u64);
    if refused > 0 {
        let fault = &partial.error_message;
        tracing::error!(fault, records = refused, "the collector refuses audit events");
    }
    refused
}

/// The next records from an event on, so many at most, and how many there are.
fn request(events: &Events, first: usize, most: usize) -> (ExportLogsServiceRequest, usize) {
    let (mut log_records, mut bytes) = (Vec::new(), 0);
    for (at, event) in events.from(first).take(most) {
        let record = record(events, at, event);
        bytes += record.encoded_len();
        if bytes > BYTES && !log_records.is_empty() {
            break;
        }
        log_records.push(record);
    }
    let records = log_records.len();
    let scope = InstrumentationScope {
        name: "fastgate.audit".into(),
        version: Identity::VERSION.into(),
        ..Default::default()
    };
    let resource = Resource {
        attributes: vec![
            text("service.name", "fastgate"),
            text("service.version", Identity::VERSION),
            text("service.instance.id", &events.node_id),
            text("deployment.environment.name", &events.environment),
        ],
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, schema_url: String::new() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource), scope_logs, schema_url: String::new() }];
    (ExportLogsServiceRequest { resource_logs }, records)
}

fn record(events: &Events, at: usize, event: &LogEvent) -> LogRecord {
    let time = event.timestamp.as_ref().map_or(0, |time| {
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.unsigned_abs().into())
    });
    let took = Duration::try_from_secs_f64(event.response_time_ms / 1000.0).unwrap_or_default();
    let (severity_number, severity_text) = match event.status_code {
        500.. => (SeverityNumber::Error, "ERROR"),
        400.. => (SeverityNumber::Warn, "WARN"),
        _ => (SeverityNumber::Info, "INFO"),
    };
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time.saturating_add(took.as_nanos() as u64),
        severity_number: severity_number.into(),
        severity_text: severity_text.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(body(event))) }),
        attributes: attributes(events, at, event),
        event_name: "fastgate.request".into(),
        ..Default::default()
    }
}

/// What a person reads: a line, whatever the client sent.
fn body(event: &LogEvent) -> String {
    let mut body = String::new();
    for c in event.method.chars().chain([' ']).chain(event.path.chars()) {
        if is_unsafe(c) { escape(c, &mut body) } else { body.push(c) }
    }
    format!("{body} {}", event.status_code)
}

/// The fields of an event that have something to say.
fn attributes(events: &Events, at: usize, event: &LogEvent) -> Vec<KeyValue> {
    let texts = [
        ("http.request.method", &event.method),
        ("url.path", &event.path),
        ("user_agent.original", &event.user_agent),
        ("client.address", &event.ip_address),
        ("error.type", &event.error),
        ("fastgate.request_id", &event.request_id),
        ("fastgate.key_id", &event.key_id),
        ("fastgate.source_path", &event.source_path),
        ("fastgate.target_url", &event.target_url),
        ("fastgate.environment", &event.environment),
        ("fastgate.route_id", &event.route_id),
        ("fastgate.response_end", &event.response_end),
    ];
    let numbers = [
        ("http.response.status_code", i64::from(event.status_code)),
        ("http.request.body.size", i64::try_from(event.request_size).unwrap_or(i64::MAX)),
        ("http.response.body.size", i64::try_from(event.response_size).unwrap_or(i64::MAX)),
        ("fastgate.attempts", i64::from(event.attempts)),
        ("fastgate.response_chunks", i64::from(event.response_chunks)),
        ("fastgate.secret_version", i64::from(event.secret_version)),
        ("fastgate.seq", i64::try_from(events.seq(at)).unwrap_or(i64::MAX)),
    ];
    let times = [
        ("fastgate.response_time_ms", event.response_time_ms),
        ("fastgate.upstream_time_ms", event.upstream_time_ms),
        ("fastgate.ttfb_ms", event.ttfb_ms),
    ];
    let texts = texts.into_iter().filter(|(_, value)| !value.is_empty());
    let mut all: Vec<_> = texts.map(|(name, value)| text(name, value)).collect();
    all.extend(numbers.map(|(name, value)| attribute(name, Value::IntValue(value))));
    all.extend(times.map(|(name, value)| attribute(name, Value::DoubleValue(value))));
    all.push(attribute("fastgate.rate_limited", Value::BoolValue(event.rate_limited)));
    put_recorded("request", &event.request_headers, event.request_body.as_ref(), &mut all);
    put_recorded("response", &event.response_headers, event.response_body.as_ref(), &mut all);
    all.push(text("fastgate.boot_id", &events.boot_id));
    all.push(text("log.record.uid", &events.id(at)));
    all
}

/// What a route asks to be recorded. A header is a list of its values, for its name may come again
/// and a key may not.
fn put_recorded(
    of: &str,
    headers: &[RecordedHeader],
    body: Option<&RecordedBody>,
    all: &mut Vec<KeyValue>,
) {
    for (at, RecordedHeader { name, .. }) in headers.iter().enumerate() {
        let (before, rest) = headers.split_at(at);
        if before.iter().any(|other| other.name == *name) {
            continue;
        }
        let those = rest.iter().filter(|other| other.name == *name);
        let value = |header: &RecordedHeader| AnyValue {
            value: Some(Value::StringValue(header.value.clone())),
        };
        let values = Value::ArrayValue(ArrayValue { values: those.map(value).collect() });
        all.push(attribute(&format!("http.{of}.header.{name}"), values));
    }
    if let Some(body) = body {
        let said = [("text", &body.text), ("omitted", &body.omitted)];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        all.extend(said.map(|(what, value)| text(&format!("fastgate.{of}_body.{what}"), value)));
        let truncated = Value::BoolValue(body.truncated);
        all.push(attribute(&format!("fastgate.{of}_body.truncated"), truncated));
    }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, Value::StringValue(value.to_owned()))
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}
