//! `fgctl config history`, `show` and `rollback`, and `diff` of two revisions.

use fastgate::admin::v1::{
    DiffConfigResponse, DiffRevisionsRequest, GetRevisionRequest, ListRevisionsRequest,
    ListRevisionsResponse, Revision, RevisionChange, RollbackConfigRequest, config_change::Action,
};

use super::{exported, finish};
use crate::{
    cli::{Limit, RollbackArgs},
    client::Client,
    commands::pages,
    error::Error,
    output::{Output, Rows, time},
};

/// Changes named in a row of the table; of an apply there may be thousands.
const NAMED: usize = 3;

pub(super) async fn list(
    Limit { limit }: Limit,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (revisions, more) = pages(limit, async |page_size, page_token| {
        let environment = client.environment();
        let request = ListRevisionsRequest { environment, page_size, page_token };
        let answer = client.config().list_revisions(request).await?.into_inner();
        Ok((answer.revisions, answer.next_page_token))
    })
    .await?;
    let rows = Rows {
        noun: "revisions",
        header: &["REVISION", "TIME", "TOKEN", "BY", "CHANGES"],
        rows: revisions.iter().map(row).collect(),
        more,
    };
    let answer = ListRevisionsResponse { revisions, ..Default::default() };
    output.list("ListRevisionsResponse", &answer, rows)
}

/// Writes the document that a revision was.
pub(super) async fn show(
    revision: u64,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let request = GetRevisionRequest { revision, environment: client.environment() };
    let config = client.config().get_revision(request).await?.into_inner();
    let text = exported(&config, output.form())?;
    output.text(&text)
}

/// What changed from one revision to another.
pub(super) async fn diff(from: u64, to: u64, client: &Client) -> Result<DiffConfigResponse, Error> {
    let environment = client.environment();
    let request = DiffRevisionsRequest { revision: to, from: Some(from), environment };
    Ok(client.config().diff_revisions(request).await?.into_inner())
}

/// Goes back to a revision.
pub(super) async fn rollback(
    args: RollbackArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let RollbackArgs { revision, force, check, wait } = args;
    let environment = client.environment();
    let request = RollbackConfigRequest {
        revision,
        environment: environment.clone(),
        validate_only: check.dry_run,
        force,
        ..Default::default()
    };
    let answer = client.config().rollback_config(request).await?.into_inner();
    finish(&answer, (client, &environment), (check, wait), output).await
}

fn row(revision: &Revision) -> Vec<String> {
    let Revision { revision: number, timestamp, token_id, action, change_count, changes } =
        revision;
    let mut named: Vec<_> = changes.iter().take(NAMED).map(change).collect();
    let others = (*change_count as usize).saturating_sub(named.len());
    if others > 0 {
        named.push(format!("{others} more"));
    }
    let call = action.rsplit('/').next().unwrap_or_default().to_owned();
    vec![number.to_string(), time(timestamp.as_ref()), token_id.clone(), call, named.join(", ")]
}

fn change(change: &RevisionChange) -> String {
    let sign = match change.action() {
        Action::Create => "+",
        Action::Delete => "-",
        Action::Update | Action::Unspecified => "~",
    };
    format!("{sign}{} {}", change.kind, change.id)
}
