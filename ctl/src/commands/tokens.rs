//! `fgctl tokens`.

use std::time::SystemTime;

use fastgate::admin::v1::{
    CreateTokenRequest, ListTokensRequest, ListTokensResponse, RevokeTokenRequest, Token,
};

use super::pages;
use crate::{
    cli::TokenCommand,
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: TokenCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut access = client.access();
    match command {
        TokenCommand::List { page } => {
            let (tokens, more) = pages(page.limit, async |page_size, page_token| {
                let request = ListTokensRequest { page_size, page_token };
                let answer = access.list_tokens(request).await?.into_inner();
                Ok((answer.tokens, answer.next_page_token))
            })
            .await?;
            let rows = rows(&tokens, more);
            let answer = ListTokensResponse { tokens, ..Default::default() };
            output.list("ListTokensResponse", &answer, rows)
        }
        TokenCommand::Create { name, role, expires_at, check } => {
            let expires_at = expires_at.map(|moment| moment.ahead(SystemTime::now()));
            let token = Some(Token { name, role, expires_at, ..Default::default() });
            let request = CreateTokenRequest { token, validate_only: check.dry_run };
            let token = access.create_token(request).await?.into_inner();
            output.object("Token", &token)?;
            if token.token_value.is_empty() {
                return Ok(());
            }
            output.remark("token_value is shown this once and can't be read again: keep it safe")
        }
        TokenCommand::Revoke { token_id } => {
            access.revoke_token(RevokeTokenRequest { token_id: token_id.clone() }).await?;
            output.remark(&format!("token {token_id} is revoked"))
        }
    }
}

fn rows(tokens: &[Token], more: bool) -> Rows {
    let row = |token: &Token| {
        vec![
            token.token_id.clone(),
            token.name.clone(),
            token.role.clone(),
            time(token.created_at.as_ref()),
            time(token.expires_at.as_ref()),
        ]
    };
    Rows {
        noun: "tokens",
        header: &["TOKEN ID", "NAME", "ROLE", "CREATED", "EXPIRES"],
        rows: tokens.iter().map(row).collect(),
        more,
    }
}
