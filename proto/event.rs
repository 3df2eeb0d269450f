//! An audit event field by field, and as a line of JSON: the same in every file, whoever writes it.
//!
//! A line is an event, whatever clients sent: control characters, those a terminal obeys among
//! them, are written as `\u001b`.

use crate::{
    admin::v1::{LogEvent, RecordedBody, RecordedHeader},
    escape::{escape, is_unsafe},
    time::Written,
};

/// A value of an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// What may hold anything a client sent.
    Text(&'a str),
    /// As RFC 3339 has it; empty where it is none.
    Time(String),
    /// A count.
    Whole(u64),
    /// Milliseconds.
    Part(f64),
    /// Yes or no.
    Truth(bool),
    /// Names and values.
    Headers(&'a [RecordedHeader]),
    /// What was recorded of one, if it was to be.
    Body(Option<&'a RecordedBody>),
}

/// The name of a field, and how its value is found.
pub type Column = (&'static str, fn(&LogEvent) -> Value<'_>);

/// The fields of an event, in the order of the API.
pub const COLUMNS: [Column; 28] = [
    ("timestamp", |e| Value::Time(written(e))),
    ("request_id", |e| Value::Text(&e.request_id)),
    ("key_id", |e| Value::Text(&e.key_id)),
    ("source_path", |e| Value::Text(&e.source_path)),
    ("method", |e| Value::Text(&e.method)),
    ("path", |e| Value::Text(&e.path)),
    ("target_url", |e| Value::Text(&e.target_url)),
    ("status_code", |e| Value::Whole(e.status_code.unsigned_abs().into())),
    ("response_time_ms", |e| Value::Part(e.response_time_ms)),
    ("request_size", |e| Value::Whole(e.request_size)),
    ("response_size", |e| Value::Whole(e.response_size)),
    ("user_agent", |e| Value::Text(&e.user_agent)),
    ("ip_address", |e| Value::Text(&e.ip_address)),
    ("environment", |e| Value::Text(&e.environment)),
    ("node_id", |e| Value::Text(&e.node_id)),
    ("route_id", |e| Value::Text(&e.route_id)),
    ("upstream_time_ms", |e| Value::Part(e.upstream_time_ms)),
    ("ttfb_ms", |e| Value::Part(e.ttfb_ms)),
    ("attempts", |e| Value::Whole(e.attempts.unsigned_abs().into())),
    ("error", |e| Value::Text(&e.error)),
    ("rate_limited", |e| Value::Truth(e.rate_limited)),
    ("secret_version", |e| Value::Whole(e.secret_version.into())),
    ("response_chunks", |e| Value::Whole(e.response_chunks.into())),
    ("response_end", |e| Value::Text(&e.response_end)),
    ("request_headers", |e| Value::Headers(&e.request_headers)),
    ("response_headers", |e| Value::Headers(&e.response_headers)),
    ("request_body", |e| Value::Body(e.request_body.as_ref())),
    ("response_body", |e| Value::Body(e.response_body.as_ref())),
];

fn written(event: &LogEvent) -> String {
    event.timestamp.as_ref().and_then(Written::new).map(|time| time.to_string()).unwrap_or_default()
}

/// Writes what stands between the braces of an event as JSON, without an end of a line in it.
pub fn json_fields(event: &LogEvent, out: &mut String) {
    for (at, (name, value)) in COLUMNS.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.extend(["\"", name, "\":"]);
        value(event).write_json(out);
    }
}

impl Value<'_> {
    /// Writes it as JSON, without an end of a line in it.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Text(text) => json_text(text, out),
            Self::Time(text) => json_text(text, out),
            Self::Whole(number) => out.push_str(&number.to_string()),
            // JSON has no other numbers.
            Self::Part(number) if !number.is_finite() => out.push_str("null"),
            // As REST writes it, with a point.
            Self::Part(number) => out.push_str(&format!("{number:?}")),
            Self::Truth(truth) => out.push_str(&truth.to_string()),
            Self::Headers(headers) => json_headers(headers, out),
            Self::Body(None) => out.push_str("null"),
            Self::Body(Some(body)) => json_body(body, out),
        }
    }
}

fn json_headers(headers: &[RecordedHeader], out: &mut String) {
    out.push('[');
    for (at, RecordedHeader { name, value }) in headers.iter().enumerate() {
        out.push_str(if at > 0 { ",{\"name\":" } else { "{\"name\":" });
        json_text(name, out);
        out.push_str(",\"value\":");
        json_text(value, out);
        out.push('}');
    }
    out.push(']');
}

fn json_body(body: &RecordedBody, out: &mut String) {
    let RecordedBody { content_type, text, truncated, omitted } = body;
    out.push_str("{\"content_type\":");
    json_text(content_type, out);
    out.push_str(",\"text\":");
    json_text(text, out);
    out.push_str(&format!(",\"truncated\":{truncated},\"omitted\":"));
    json_text(omitted, out);
    out.push('}');
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => escape(c, out),
            c => out.push(c),
        }
    }
    out.push('"');
}
