//! `fgctl upstreams`.

use fastgate::admin::v1::{
    CreateUpstreamRequest, DeleteUpstreamRequest, GetUpstreamRequest, ListUpstreamsRequest,
    ListUpstreamsResponse, Target, UpdateUpstreamRequest, Upstream,
};

use super::{
    fields::{Changes, targets},
    pages,
};
use crate::{
    cli::{Limit, UpstreamCommand, UpstreamFields},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: UpstreamCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut upstreams = client.upstreams();
    let environment = client.environment();
    match command {
        UpstreamCommand::List { page } => list(page, client, output).await,
        UpstreamCommand::Get { upstream_id } => {
            let request = GetUpstreamRequest { upstream_id, environment };
            output.object("Upstream", upstreams.get_upstream(request).await?.get_ref())
        }
        UpstreamCommand::Create { upstream_id, fields, check } => {
            let mut upstream = Upstream { upstream_id, ..Default::default() };
            set(fields, &mut upstream, &mut Changes::default());
            let request = CreateUpstreamRequest {
                upstream: Some(upstream),
                environment,
                validate_only: check.dry_run,
                ..Default::default()
            };
            output.object("Upstream", upstreams.create_upstream(request).await?.get_ref())
        }
        UpstreamCommand::Update { upstream_id, fields, clear, etag, check } => {
            let etag = etag.etag.unwrap_or_default();
            let mut upstream = Upstream { upstream_id, etag, ..Default::default() };
            let mut changes = Changes::clearing(clear);
            set(fields, &mut upstream, &mut changes);
            let request = UpdateUpstreamRequest {
                upstream: Some(upstream),
                update_mask: Some(changes.mask()?),
                environment,
                validate_only: check.dry_run,
            };
            output.object("Upstream", upstreams.update_upstream(request).await?.get_ref())
        }
        UpstreamCommand::Delete { upstream_id, etag, check } => {
            let request = DeleteUpstreamRequest {
                upstream_id: upstream_id.clone(),
                environment,
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            upstreams.delete_upstream(request).await?;
            output.deleted("upstream", &upstream_id, check)
        }
    }
}

async fn list(page: Limit, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let mut upstreams = client.upstreams();
    let (upstreams, more) = pages(page.limit, async |page_size, page_token| {
        let environment = client.environment();
        let request = ListUpstreamsRequest { environment, page_size, page_token };
        let answer = upstreams.list_upstreams(request).await?.into_inner();
        Ok((answer.upstreams, answer.next_page_token))
    })
    .await?;
    let rows = rows(&upstreams, more);
    let answer = ListUpstreamsResponse { upstreams, ..Default::default() };
    output.list("ListUpstreamsResponse", &answer, rows)
}

fn set(given: UpstreamFields, upstream: &mut Upstream, changes: &mut Changes) {
    changes.set_list("targets", &mut upstream.targets, targets(given.targets));
    changes.set("connect_timeout", &mut upstream.connect_timeout, given.connect_timeout);
    changes.set("description", &mut upstream.description, given.description);
    changes.set_labels(&mut upstream.labels, given.labels);
}

fn rows(upstreams: &[Upstream], more: bool) -> Rows {
    let target = |target: &Target| match target.weight {
        Some(weight) => format!("{} ({weight})", target.url),
        None => target.url.clone(),
    };
    let row = |upstream: &Upstream| {
        vec![
            upstream.upstream_id.clone(),
            upstream.targets.iter().map(target).collect::<Vec<_>>().join(", "),
            upstream.description.clone(),
            time(upstream.updated_at.as_ref()),
        ]
    };
    Rows {
        noun: "upstreams",
        header: &["UPSTREAM ID", "TARGETS (WEIGHT)", "DESCRIPTION", "UPDATED"],
        rows: upstreams.iter().map(row).collect(),
        more,
    }
}
