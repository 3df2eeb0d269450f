//! Admin tokens, and who changed what.

use std::time::SystemTime;

use fastgate::{
    admin::v1::{
        CreateTokenRequest, ListAdminEventsRequest, ListAdminEventsResponse, ListTokensRequest,
        ListTokensResponse, RevokeTokenRequest, Token as WireToken,
        access_service_server::AccessService,
    },
    model::{self, Violations},
    secret::{Kind, Secret},
};
use tonic::{Request, Response, Status};

use super::{
    Admin, change::caller, check_text, future, missing, new_id, now, page::Paging, parse_id,
};
use crate::{
    domain::{Role, Token},
    error::Error,
};

#[tonic::async_trait]
impl AccessService for Admin {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<WireToken>, Status> {
        let actor = caller(&request)?;
        let CreateTokenRequest { token, validate_only } = request.into_inner();
        let sent = token.ok_or_else(|| missing("token"))?;
        let secret = Secret::generate(Kind::AdminToken).map_err(Error::from)?;
        let token = parse(&sent, &secret, now())?;
        let mut answer = wire(&token);
        if !validate_only {
            self.store.create_token(&token, &actor).await.map_err(Error::from)?;
            self.access.forget_tokens();
            answer.token_value = secret.expose().to_owned();
        }
        Ok(Response::new(answer))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let ListTokensRequest { page_size, page_token } = request.into_inner();
        let paging = Paging::parse(page_size, &page_token, &["tokens"])?;
        let mut tokens = self.store.tokens().await.map_err(Error::from)?;
        tokens.sort_by(|one, other| one.token_id.cmp(&other.token_id));
        let (page, next_page_token) = paging.cut_all(tokens, |token| &token.token_id);
        let tokens = page.iter().map(wire).collect();
        Ok(Response::new(ListTokensResponse { tokens, next_page_token }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let id = parse_id("token_id", &request.into_inner().token_id)?;
        self.store.revoke_token(id.as_str(), &actor).await.map_err(Error::from)?;
        self.access.forget_tokens();
        Ok(Response::new(()))
    }

    async fn list_admin_events(
        &self,
        request: Request<ListAdminEventsRequest>,
    ) -> Result<Response<ListAdminEventsResponse>, Status> {
        let ListAdminEventsRequest { environment, page_size, page_token } = request.into_inner();
        check_text("environment", &environment)?;
        let paging = Paging::parse(page_size, &page_token, &["events", &environment])?;
        let environment = Some(environment.as_str()).filter(|name| !name.is_empty());
        let found = self.store.admin_events(environment, &paging.query()).await;
        let (page, next_page_token) =
            paging.cut(found.map_err(Error::from)?, |(cursor, _)| cursor.clone());
        let events = page.into_iter().map(|(_, event)| event).collect();
        Ok(Response::new(ListAdminEventsResponse { events, next_page_token }))
    }
}

fn parse(sent: &WireToken, secret: &Secret, now: SystemTime) -> Result<Token, Error> {
    let mut faults = Violations::default();
    if sent.name.is_empty() {
        faults.add("name", "is missing: say what the token is for");
    }
    if let Err(fault) = model::text(&sent.name) {
        faults.add("name", fault);
    }
    let role = Role::parse(&sent.role);
    if role.is_none() {
        faults.add("role", "must be viewer, auditor, key_manager, operator or owner");
    }
    let expires_at = future("expires_at", sent.expires_at, now, &mut faults);
    Ok(faults.or(Token {
        token_id: new_id("tok"),
        name: sent.name.clone(),
        role: role.unwrap_or(Role::Viewer),
        hash: secret.hash(),
        created_at: now,
        expires_at: expires_at.unwrap_or(now + Token::LIFETIME),
    })?)
}

fn wire(token: &Token) -> WireToken {
    WireToken {
        token_id: token.token_id.clone(),
        token_value: String::new(),
        name: token.name.clone(),
        role: token.role.name().to_owned(),
        created_at: Some(token.created_at.into()),
        expires_at: Some(token.expires_at.into()),
    }
}
