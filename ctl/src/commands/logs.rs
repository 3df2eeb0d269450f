//! `fgctl logs`.

use std::time::SystemTime;

use fastgate::admin::v1::{ListLogsRequest, ListLogsResponse, LogEvent};

use super::pages;
use crate::{
    cli::{LogCommand, LogFilter},
    client::Client,
    error::Error,
    output::{Output, Rows, time_ms},
};

pub(super) async fn run(
    command: LogCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let LogCommand::List(filter) = command;
    let mut logs = client.logs();
    let limit = filter.limit;
    let request = request(filter, client.environment(), SystemTime::now());
    let (logs, more) = pages(limit, async |page_size, page_token| {
        let request = ListLogsRequest { page_size, page_token, ..request.clone() };
        let answer = logs.list_logs(request).await?.into_inner();
        Ok((answer.logs, answer.next_page_token))
    })
    .await?;
    let rows = rows(&logs, more);
    output.list("ListLogsResponse", &ListLogsResponse { logs, ..Default::default() }, rows)
}

fn request(filter: LogFilter, environment: String, now: SystemTime) -> ListLogsRequest {
    ListLogsRequest {
        environment,
        key_id: filter.key_id.unwrap_or_default(),
        source_path: filter.source_path.unwrap_or_default(),
        path_prefix: filter.path_prefix.unwrap_or_default(),
        method: filter.method.unwrap_or_default().to_ascii_uppercase(),
        status_code: filter.status.unwrap_or_default(),
        start_time: filter.since.map(|since| since.ago(now)),
        end_time: filter.until.map(|until| until.ago(now)),
        request_id: filter.request_id.unwrap_or_default(),
        route_id: filter.route_id.unwrap_or_default(),
        ..Default::default()
    }
}

fn rows(logs: &[LogEvent], more: bool) -> Rows {
    let row = |event: &LogEvent| {
        vec![
            time_ms(event.timestamp.as_ref()),
            event.status_code.to_string(),
            event.method.clone(),
            event.path.clone(),
            format!("{:.1}", event.response_time_ms),
            event.source_path.clone(),
            event.key_id.clone(),
            event.target_url.clone(),
            event.ip_address.clone(),
            event.error.clone(),
            event.request_id.clone(),
        ]
    };
    Rows {
        noun: "events in this time",
        header: &[
            "TIME",
            "STATUS",
            "METHOD",
            "PATH",
            "MS",
            "SOURCE PATH",
            "KEY ID",
            "TARGET",
            "ADDRESS",
            "ERROR",
            "REQUEST ID",
        ],
        rows: logs.iter().map(row).collect(),
        more,
    }
}
