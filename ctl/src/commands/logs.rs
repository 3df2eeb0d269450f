//! `fgctl logs`.

use std::time::SystemTime;

use fastgate::admin::v1::{
    ExportLogsRequest, ListGapsRequest, ListGapsResponse, ListLogsRequest, ListLogsResponse,
    LogEvent, LogGap, TailLogsRequest,
};

use super::pages;
use crate::{
    cli::{FileFormat, Form, LogCommand, LogFilter, LogTimes},
    client::Client,
    error::{Error, shown},
    output::{Output, Rows, time_ms},
};

/// Letters of a path that a table has room for.
const PATH_SHOWN: usize = 100;

pub(super) async fn run(
    command: LogCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match command {
        LogCommand::List { filter, times, limit } => {
            let request = request(*filter, times, client.environment(), SystemTime::now());
            list(request, limit, client, output).await
        }
        LogCommand::Export { filter, times, format } => {
            let request = request(*filter, times, client.environment(), SystemTime::now());
            export(request, format, client, output).await
        }
        LogCommand::Tail { filter, lines, follow } => {
            let times = LogTimes { since: None, until: None };
            let request = request(*filter, times, client.environment(), SystemTime::now());
            tail(request, lines, follow, client, output).await
        }
        LogCommand::Gaps { node_id, page } => {
            gaps(node_id.unwrap_or_default(), page.limit, client, output).await
        }
    }
}

async fn list(
    request: ListLogsRequest,
    limit: u32,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (logs, more) = newest(request, limit, client).await?;
    let rows = rows(&logs, more);
    output.list("ListLogsResponse", &ListLogsResponse { logs, ..Default::default() }, rows)
}

/// At most `limit` events, and whether there are more.
async fn newest(
    request: ListLogsRequest,
    limit: u32,
    client: &Client,
) -> Result<(Vec<LogEvent>, bool), Error> {
    let mut logs = client.logs();
    pages(limit, async |page_size, page_token| {
        let request = ListLogsRequest { page_size, page_token, ..request.clone() };
        let answer = logs.list_logs(request).await?.into_inner();
        Ok((answer.logs, answer.next_page_token))
    })
    .await
}

/// Writes part after part, as they come: the file is as the control plane wrote it, `--output` or not.
async fn export(
    request: ListLogsRequest,
    format: FileFormat,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let format = match format {
        FileFormat::Jsonl => "jsonl",
        FileFormat::Csv => "csv",
    };
    let mut parts = client.logs().export_logs(to_export(request, format)).await?.into_inner();
    while let Some(part) = parts.message().await? {
        output.bytes(&part.data)?;
    }
    Ok(())
}

/// Shows an event a line, as they come.
async fn tail(
    request: ListLogsRequest,
    lines: u32,
    follow: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut logs = client.logs();
    if follow {
        let mut events = logs.tail_logs(to_tail(request, lines)).await?.into_inner();
        while let Some(shown) = events.message().await? {
            if shown.passed_over > 0 {
                let events = shown.passed_over;
                output.remark(&format!(
                    "{events} events are not shown: they are too many or too large"
                ))?;
            }
            shown.log.iter().try_for_each(|event| show(event, output))?;
            output.flush()?;
        }
        return Ok(());
    }
    if lines == 0 {
        return Ok(());
    }
    let (found, _) = newest(request, lines, client).await?;
    found.iter().rev().try_for_each(|event| show(event, output))
}

async fn gaps(
    node_id: String,
    limit: u32,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut logs = client.logs();
    let (gaps, more) = pages(limit, async |page_size, page_token| {
        let (environment, node_id) = (client.environment(), node_id.clone());
        let request = ListGapsRequest { environment, page_size, page_token, node_id };
        let answer = logs.list_gaps(request).await?.into_inner();
        Ok((answer.gaps, answer.next_page_token))
    })
    .await?;
    let rows = gap_rows(&gaps, more);
    output.list("ListGapsResponse", &ListGapsResponse { gaps, ..Default::default() }, rows)
}

fn show(event: &LogEvent, output: &mut Output<'_>) -> Result<(), Error> {
    if output.form() != Form::Table {
        return output.line("LogEvent", event);
    }
    let said: Vec<_> = cells(event).into_iter().filter(|cell| !cell.is_empty()).collect();
    output.text(&format!("{}\n", shown(&said.join("  "))))
}

fn request(
    filter: LogFilter,
    times: LogTimes,
    environment: String,
    now: SystemTime,
) -> ListLogsRequest {
    ListLogsRequest {
        environment,
        key_id: filter.key_id.unwrap_or_default(),
        source_path: filter.source_path.unwrap_or_default(),
        path_prefix: filter.path_prefix.unwrap_or_default(),
        path_contains: filter.path_contains.unwrap_or_default(),
        method: filter.method.unwrap_or_default().to_ascii_uppercase(),
        status_code: filter.status.unwrap_or_default(),
        start_time: times.since.map(|since| since.ago(now)),
        end_time: times.until.map(|until| until.ago(now)),
        request_id: filter.request_id.unwrap_or_default(),
        route_id: filter.route_id.unwrap_or_default(),
        target_url: filter.target_url.unwrap_or_default(),
        error: filter.error.unwrap_or_default(),
        ip_address: filter.ip_address.unwrap_or_default(),
        user_agent_contains: filter.user_agent_contains.unwrap_or_default(),
        node_id: filter.node_id.unwrap_or_default(),
        rate_limited: filter.rate_limited,
        secret_version: filter.secret_version,
        min_attempts: filter.min_attempts.unwrap_or_default(),
        min_response_time_ms: filter.min_response_time_ms.unwrap_or_default(),
        min_upstream_time_ms: filter.min_upstream_time_ms.unwrap_or_default(),
        min_ttfb_ms: filter.min_ttfb_ms.unwrap_or_default(),
        min_request_size: filter.min_request_size.unwrap_or_default(),
        min_response_size: filter.min_response_size.unwrap_or_default(),
        response_end: filter.response_end.unwrap_or_default(),
        min_response_chunks: filter.min_response_chunks.unwrap_or_default(),
        ..Default::default()
    }
}

/// An export of what a list would show.
fn to_export(list: ListLogsRequest, format: &str) -> ExportLogsRequest {
    ExportLogsRequest {
        environment: list.environment,
        format: format.to_owned(),
        key_id: list.key_id,
        source_path: list.source_path,
        path_prefix: list.path_prefix,
        path_contains: list.path_contains,
        method: list.method,
        status_code: list.status_code,
        start_time: list.start_time,
        end_time: list.end_time,
        request_id: list.request_id,
        route_id: list.route_id,
        target_url: list.target_url,
        error: list.error,
        ip_address: list.ip_address,
        user_agent_contains: list.user_agent_contains,
        node_id: list.node_id,
        rate_limited: list.rate_limited,
        secret_version: list.secret_version,
        min_attempts: list.min_attempts,
        min_response_time_ms: list.min_response_time_ms,
        min_upstream_time_ms: list.min_upstream_time_ms,
        min_ttfb_ms: list.min_ttfb_ms,
        min_request_size: list.min_request_size,
        min_response_size: list.min_response_size,
        response_end: list.response_end,
        min_response_chunks: list.min_response_chunks,
    }
}

/// A tail of what a list would show.
fn to_tail(list: ListLogsRequest, lines: u32) -> TailLogsRequest {
    TailLogsRequest {
        environment: list.environment,
        lines,
        key_id: list.key_id,
        source_path: list.source_path,
        path_prefix: list.path_prefix,
        path_contains: list.path_contains,
        method: list.method,
        status_code: list.status_code,
        request_id: list.request_id,
        route_id: list.route_id,
        target_url: list.target_url,
        error: list.error,
        ip_address: list.ip_address,
        user_agent_contains: list.user_agent_contains,
        node_id: list.node_id,
        rate_limited: list.rate_limited,
        secret_version: list.secret_version,
        min_attempts: list.min_attempts,
        min_response_time_ms: list.min_response_time_ms,
        min_upstream_time_ms: list.min_upstream_time_ms,
        min_ttfb_ms: list.min_ttfb_ms,
        min_request_size: list.min_request_size,
        min_response_size: list.min_response_size,
        response_end: list.response_end,
        min_response_chunks: list.min_response_chunks,
    }
}

fn rows(logs: &[LogEvent], more: bool) -> Rows {
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
        rows: logs.iter().map(|event| cells(&with_short_path(event))).collect(),
        more,
    }
}

/// One long path would push the columns of all other events out of sight.
fn with_short_path(event: &LogEvent) -> LogEvent {
    let mut event = event.clone();
    if let Some((cut, _)) = event.path.char_indices().nth(PATH_SHOWN) {
        event.path.truncate(cut);
        event.path.push('…');
    }
    event
}

fn gap_rows(gaps: &[LogGap], more: bool) -> Rows {
    let row = |gap: &LogGap| {
        vec![
            time_ms(gap.timestamp.as_ref()),
            gap.node_id.clone(),
            gap.boot_id.clone(),
            gap.first_seq.to_string(),
            gap.last_seq.to_string(),
            gap.events.to_string(),
            gap.reason.clone(),
        ]
    };
    Rows {
        noun: "gaps: no event is known to be lost",
        header: &["TIME", "NODE ID", "BOOT ID", "FROM", "TO", "EVENTS", "REASON"],
        rows: gaps.iter().map(row).collect(),
        more,
    }
}

/// What a line tells of an event.
fn cells(event: &LogEvent) -> Vec<String> {
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
}
