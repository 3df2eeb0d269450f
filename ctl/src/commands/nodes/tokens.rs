//! `fgctl nodes tokens`.

use std::time::SystemTime;

use fastgate::admin::v1::{
    CreateJoinTokenRequest, DeleteJoinTokenRequest, JoinToken, ListJoinTokensRequest,
    ListJoinTokensResponse,
};

use crate::{
    cli::JoinTokenCommand,
    client::Client,
    commands::pages,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: JoinTokenCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut nodes = client.nodes();
    match command {
        JoinTokenCommand::List { all, page } => {
            let environment = if all { String::new() } else { client.environment() };
            let (join_tokens, more) = pages(page.limit, async |page_size, page_token| {
                let environment = environment.clone();
                let request = ListJoinTokensRequest { environment, page_size, page_token };
                let answer = nodes.list_join_tokens(request).await?.into_inner();
                Ok((answer.join_tokens, answer.next_page_token))
            })
            .await?;
            let rows = rows(&join_tokens, more);
            let answer = ListJoinTokensResponse { join_tokens, ..Default::default() };
            output.list("ListJoinTokensResponse", &answer, rows)
        }
        JoinTokenCommand::Create { node_id, expires_at, check } => {
            let expires_at = expires_at.map(|moment| moment.ahead(SystemTime::now()));
            let node_id = node_id.unwrap_or_default();
            let join_token = Some(JoinToken { node_id, expires_at, ..Default::default() });
            let environment = client.environment();
            let validate_only = check.dry_run;
            let request = CreateJoinTokenRequest { join_token, environment, validate_only };
            let token = nodes.create_join_token(request).await?.into_inner();
            output.object("JoinToken", &token)?;
            if token.token_value.is_empty() {
                return Ok(());
            }
            output.remark(
                "token_value is shown this once: write it to the file of the node's --join-token-file",
            )
        }
        JoinTokenCommand::Delete { token_id } => {
            let request = DeleteJoinTokenRequest { token_id: token_id.clone() };
            nodes.delete_join_token(request).await?;
            output.remark(&format!("join token {token_id} is deleted"))
        }
    }
}

fn rows(tokens: &[JoinToken], more: bool) -> Rows {
    let row = |token: &JoinToken| {
        vec![
            token.token_id.clone(),
            token.environment.clone(),
            if token.node_id.is_empty() { "any".into() } else { token.node_id.clone() },
            time(token.created_at.as_ref()),
            time(token.expires_at.as_ref()),
        ]
    };
    Rows {
        noun: "join tokens",
        header: &["TOKEN ID", "ENVIRONMENT", "NODE", "CREATED", "EXPIRES"],
        rows: tokens.iter().map(row).collect(),
        more,
    }
}
