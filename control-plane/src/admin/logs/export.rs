//! The audit log as a file: JSON Lines or CSV, written while it is read.
//!
//! A line is an event, whatever clients sent: see `fastgate::event`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fastgate::{
    admin::v1::{FilePart, LogEvent},
    escape::{escape, is_unsafe},
    event::{COLUMNS, Value, json_fields},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{domain::EventFilter, error::Error, store::Store};

/// Events read at once.
const PAGE: u32 = 1000;
/// How large a part may become before another begins, but for its last event.
const PART_BYTES: usize = 256 << 10;
/// Parts on their way to one client.
const PARTS: usize = 2;
/// How long a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(600);
/// Exports under way at most: each holds what its client has yet to take.
const EXPORTS: usize = 16;

/// Room for all exports of this control plane.
#[derive(Clone)]
pub(crate) struct Exports(Arc<Semaphore>);

/// An export about to start.
pub(super) struct Export {
    pub(super) store: Arc<dyn Store>,
    pub(super) filter: EventFilter,
    pub(super) format: Format,
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    JsonLines,
    Csv,
}

type Parts = mpsc::Sender<Result<FilePart, Status>>;

impl Default for Exports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS)))
    }
}

impl Exports {
    /// Room for one more.
    pub(super) fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.0.clone().try_acquire_owned().map_err(|_| Error::TooManyExports(EXPORTS))
    }
}

impl Export {
    /// Reads page after page as fast as the client takes them, until it leaves or `stop`.
    pub(super) fn start(
        self,
        room: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) -> ReceiverStream<Result<FilePart, Status>> {
        let (parts, stream) = mpsc::channel(PARTS + 1);
        // A file that breaks off is to say so, however many parts wait.
        let end = parts.clone().try_reserve_owned();
        tokio::spawn(async move {
            let _room = room;
            let ended = tokio::select! {
                ended = self.write(&parts) => ended,
                () = stop.cancelled() => Err(Status::unavailable("the control plane stops")),
                () = parts.closed() => return,
            };
            if let (Err(status), Ok(end)) = (ended, end) {
                end.send(Err(status));
            }
        });
        ReceiverStream::new(stream)
    }

    async fn write(&self, parts: &Parts) -> Result<(), Status> {
        let mut text = self.format.head();
        let mut after = None;
        loop {
            let page = self.store.events(&self.filter, after, PAGE).await.map_err(Error::from)?;
            let is_last = page.left_out == 0 && page.events.len() < PAGE as usize;
            for (position, event) in page.events {
                self.format.write(&event, &mut text);
                after = Some(position);
                if text.len() >= PART_BYTES {
                    self.send(&mut text, parts).await?;
                }
            }
            // The first part goes out without an event, too: it says what kind of file it is.
            self.send(&mut text, parts).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send(&self, text: &mut String, parts: &Parts) -> Result<(), Status> {
        let content_type = self.format.content_type().to_owned();
        let data = Bytes::from(std::mem::take(text));
        let sent = parts.send_timeout(Ok(FilePart { content_type, data }), PATIENCE).await;
        sent.map_err(|_| {
            Status::deadline_exceeded("nothing of the export was taken for ten minutes")
        })
    }
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "" | "jsonl" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            other => Err(Error::field("format", format!("is '{other}': give 'jsonl' or 'csv'"))),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// What stands before the first event.
    fn head(self) -> String {
        match self {
            Self::JsonLines => String::new(),
            Self::Csv => COLUMNS.map(|(name, _)| name).join(",") + "\r\n",
        }
    }

    fn write(self, event: &LogEvent, out: &mut String) {
        match self {
            Self::JsonLines => {
                out.push('{');
                json_fields(event, out);
                out.push_str("}\n");
            }
            Self::Csv => {
                for (at, (_, value)) in COLUMNS.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    csv_value(&value(event), out);
                }
                // RFC 4180 section 2.
                out.push_str("\r\n");
            }
        }
    }
}

/// A value between two commas. A text that a spreadsheet would take for a formula gets a quote
/// before it; numbers are none.
fn csv_value(value: &Value<'_>, out: &mut String) {
    let mut json = String::new();
    let text = match value {
        Value::Text(text) => *text,
        Value::Time(text) => text,
        Value::Whole(number) => return out.push_str(&number.to_string()),
        Value::Part(number) => return out.push_str(&number.to_string()),
        Value::Truth(truth) => return out.push_str(&truth.to_string()),
        Value::Headers([]) | Value::Body(None) => "",
        // In one cell, as JSON.
        Value::Headers(_) | Value::Body(Some(_)) => {
            value.write_json(&mut json);
            &json
        }
    };
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_quoted = is_formula || text.contains([',', '"', '\'', ';']);
    if is_quoted {
        out.push('"');
    }
    if is_formula {
        out.push('\'');
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\"\""),
            c if is_unsafe(c) => escape(c, out),
            c => out.push(c),
        }
    }
    if is_quoted {
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1::{RecordedBody, RecordedHeader};

    use super::*;

    /// What clients may have sent.
    const HOSTILE: &str = "=1+1\r\nx\u{1b}[31m\u{9b}31m\u{2028}\u{202e}\",'\\;\u{7f}用户";

    fn hostile() -> LogEvent {
        let text = || HOSTILE.to_owned();
        LogEvent {
            timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 5_000_000 }),
            request_id: text(),
            key_id: text(),
            source_path: text(),
            method: text(),
            path: text(),
            target_url: text(),
            status_code: 200,
            response_time_ms: 1.5,
            request_size: u64::MAX,
            user_agent: text(),
            ip_address: text(),
            node_id: text(),
            route_id: text(),
            error: text(),
            rate_limited: true,
            request_headers: vec![RecordedHeader { name: "x".into(), value: text() }],
            response_body: Some(RecordedBody { text: text(), ..RecordedBody::default() }),
            ..LogEvent::default()
        }
    }

    fn written(format: Format, event: &LogEvent) -> String {
        let mut out = String::new();
        format.write(event, &mut out);
        out
    }

    #[test]
    fn a_line_of_json_reads_back_as_it_was() {
        let line = written(Format::JsonLines, &hostile());
        let (line, rest) = line.split_once('\n').expect("a line");
        assert!(rest.is_empty() && !line.contains(is_unsafe), "{line}");
        let read: serde_json::Value = serde_json::from_str(line).expect("json");
        assert_eq!(read["user_agent"], HOSTILE);
        assert_eq!(read["request_size"], u64::MAX);
        assert_eq!(read["timestamp"], "1970-01-01T00:00:01.005Z");
        assert_eq!(read["rate_limited"], true);
        assert_eq!(read["request_headers"][0]["value"], HOSTILE);
        assert_eq!(read["response_headers"], serde_json::json!([]));
        assert_eq!(read["response_body"]["text"], HOSTILE);
        assert!(read["request_body"].is_null());
        assert_eq!(read.as_object().map(serde_json::Map::len), Some(COLUMNS.len()));
        let odd = LogEvent { ttfb_ms: f64::NAN, upstream_time_ms: f64::INFINITY, ..hostile() };
        let read: serde_json::Value =
            serde_json::from_str(&written(Format::JsonLines, &odd)).expect("json");
        assert!(read["ttfb_ms"].is_null() && read["upstream_time_ms"].is_null());
    }

    #[test]
    fn a_line_of_csv_has_its_columns_and_no_formula() {
        let headers = written(Format::Csv, &hostile());
        assert!(!headers.trim_end().contains(is_unsafe), "{headers}");
        let json = r#""[{""name"":""x"",""value"":""=1+1\u000d\u000ax\u001b[31m\u009b31m\u2028\u202e\"",'\\;"#;
        assert!(headers.contains(json), "{headers}");
        let plain = LogEvent { request_headers: Vec::new(), response_body: None, ..hostile() };
        let line = written(Format::Csv, &plain);
        let line = line.strip_suffix("\r\n").expect("a line");
        assert!(!line.contains(is_unsafe), "{line}");
        let cell =
            "\"'=1+1\\u000d\\u000ax\\u001b[31m\\u009b31m\\u2028\\u202e\"\",'\\;\\u007f用户\"";
        assert_eq!(line.matches(cell).count(), 11, "{line}");
        let rest = line.replace(cell, "x");
        assert_eq!(rest.split(',').count(), COLUMNS.len(), "{rest}");
        assert_eq!(Format::Csv.head().split(',').count(), COLUMNS.len());
        for (sent, cell) in [
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("+x", "\"'+x\""),
            ("a\"b", "\"a\"\"b\""),
            ("plain", "plain"),
            ("", ""),
        ] {
            let mut out = String::new();
            csv_value(&Value::Text(sent), &mut out);
            assert_eq!(out, cell);
        }
    }
}
