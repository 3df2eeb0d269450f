//! `fgctl metrics`.

use std::time::SystemTime;

use fastgate::admin::v1::{GetMetricsRequest, Metrics, NamedSums, RequestSums};

use crate::{
    cli::{Form, MetricsArgs, StepArg},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

/// The names of the columns, the first of which says what a line is about.
macro_rules! head {
    ($name:literal) => {
        [
            $name,
            "REQUESTS",
            "4XX",
            "5XX",
            "ERRORS",
            "LIMITED",
            "P50 MS",
            "P90 MS",
            "P99 MS",
            "BYTES IN",
            "BYTES OUT",
        ]
    };
}

pub(super) async fn run(
    args: MetricsArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let request = request(args, client.environment(), SystemTime::now());
    let metrics = client.metrics().get_metrics(request).await?.into_inner();
    if output.form() != Form::Table {
        return output.object("Metrics", &metrics);
    }
    output.rows(series(&metrics))?;
    for (noun, header, named) in [
        ("keys", &head!("KEY ID"), &metrics.top_keys),
        ("source paths", &head!("SOURCE PATH"), &metrics.top_source_paths),
        ("routes", &head!("ROUTE ID"), &metrics.top_routes),
        ("targets", &head!("TARGET"), &metrics.top_targets),
        ("errors", &head!("ERROR"), &metrics.top_errors),
    ] {
        if !named.is_empty() {
            output.text("\n")?;
            output.rows(top(noun, header, named))?;
        }
    }
    Ok(())
}

fn request(args: MetricsArgs, environment: String, now: SystemTime) -> GetMetricsRequest {
    let step = args.step.map(|step| match step {
        StepArg::Minute => "minute",
        StepArg::Hour => "hour",
        StepArg::Day => "day",
    });
    GetMetricsRequest {
        environment,
        start_time: args.since.map(|since| since.ago(now)),
        end_time: args.until.map(|until| until.ago(now)),
        step: step.unwrap_or_default().into(),
        top: args.top,
        key_id: args.key_id.unwrap_or_default(),
        source_path: args.source_path.unwrap_or_default(),
        route_id: args.route_id.unwrap_or_default(),
        target_url: args.target_url.unwrap_or_default(),
        error: args.error.unwrap_or_default(),
        status_code: args.status.unwrap_or_default(),
    }
}

/// A line for each step, and one for all.
fn series(metrics: &Metrics) -> Rows {
    let steps = metrics.series.iter().map(|step| row(time(step.start_time.as_ref()), step.sums));
    let all = metrics.totals.filter(|sums| sums.requests > 0);
    let rows = steps.chain(all.map(|sums| row("all".into(), Some(sums)))).collect();
    Rows { noun: "requests in this time", header: &head!("TIME"), rows, more: false }
}

fn top(noun: &'static str, header: &'static [&'static str], named: &[NamedSums]) -> Rows {
    let rows = named.iter().map(|named| row(named.name.clone(), named.sums)).collect();
    Rows { noun, header, rows, more: false }
}

fn row(name: String, sums: Option<RequestSums>) -> Vec<String> {
    let sums = sums.unwrap_or_default();
    vec![
        name,
        sums.requests.to_string(),
        sums.client_errors.to_string(),
        sums.server_errors.to_string(),
        format!("{:.2}%", sums.error_rate * 100.0),
        sums.rate_limited.to_string(),
        format!("{:.1}", sums.p50_ms),
        format!("{:.1}", sums.p90_ms),
        format!("{:.1}", sums.p99_ms),
        sums.request_size.to_string(),
        sums.response_size.to_string(),
    ]
}
