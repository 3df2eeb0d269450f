//! What of the requests of a route is recorded, as options.

use clap::Args;

/// What people choose of it.
#[derive(Args, Debug, Default)]
pub(crate) struct RecordingFields {
    /// A header of requests to record the value of; may be repeated or a list with commas. Secrets are recorded as
    /// [redacted]
    #[arg(
        long = "record-request-header",
        visible_alias = "record-request-headers",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) request_headers: Vec<String>,
    /// The same of responses
    #[arg(
        long = "record-response-header",
        visible_alias = "record-response-headers",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) response_headers: Vec<String>,
    /// The share of requests answered with 2xx to record, 0 to 1; the others are counted alone [default: 1]
    #[arg(long = "record-success-sample", value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) success_sample: Option<f64>,
    /// Bytes of request bodies to record, at most 65536 [default: 0]
    #[arg(long = "record-request-body", value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) request_body_bytes: Option<i32>,
    /// Bytes of response bodies to record, at most 65536 [default: 0]
    #[arg(long = "record-response-body", value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) response_body_bytes: Option<i32>,
    /// A content type of the bodies to record; may be repeated or a list with commas
    /// [default: application/json,application/*+json,text/*]
    #[arg(
        long = "record-body-type",
        visible_alias = "record-body-types",
        value_name = "TYPE",
        value_delimiter = ','
    )]
    pub(crate) body_types: Vec<String>,
    /// What to take out of recorded bodies: $.password, $.items[*].card or $..token; may be repeated. With it only
    /// whole JSON is recorded
    #[arg(long = "record-redact", value_name = "PATH")]
    pub(crate) redact: Vec<String>,
}
