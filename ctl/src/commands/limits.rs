//! `fgctl limits`.

use fastgate::admin::v1::{
    LimitStanding, ListLimitsRequest, ListLimitsResponse, ResetLimitsRequest,
};

use super::fields::limit_arg;
use crate::{
    cli::LimitCommand,
    client::Client,
    error::Error,
    output::{Output, Rows},
};

pub(super) async fn run(
    command: LimitCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (mut limits, environment) = (client.limits(), client.environment());
    let answer = match command {
        LimitCommand::Show { key_id } => {
            limits.list_limits(ListLimitsRequest { key_id, environment }).await?
        }
        LimitCommand::Reset { key_id } => {
            limits.reset_limits(ResetLimitsRequest { key_id, environment }).await?
        }
    };
    let answer: ListLimitsResponse = answer.into_inner();
    let rows = rows(&answer.limits);
    output.list("ListLimitsResponse", &answer, rows)?;
    answer.missing.iter().try_for_each(|why| output.remark(why))
}

fn rows(limits: &[LimitStanding]) -> Rows {
    let row = |standing: &LimitStanding| {
        let admits = standing.limit.as_ref().map(|limit| limit_arg(limit).admits());
        vec![
            standing.name.clone(),
            if standing.route_id.is_empty() { "*".into() } else { standing.route_id.clone() },
            admits.unwrap_or_default(),
            standing.remaining.to_string(),
            format!("{}s", standing.reset),
            standing.counted_by.clone(),
        ]
    };
    Rows {
        noun: "limits told",
        header: &["LIMIT", "ROUTE", "ADMITS", "REMAINING", "RESET", "COUNTED BY"],
        rows: limits.iter().map(row).collect(),
        more: false,
    }
}
