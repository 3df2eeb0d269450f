//! The running data planes, as this control plane knows them, what they say when they are asked, and what
//! lets them in.
//!
//! What is listed and asked needs no database, for environments that were there when it was last read.

use std::time::SystemTime;

use fastgate::{
    admin::v1::{
        CreateJoinTokenRequest, DeleteJoinTokenRequest, ExplainRequest, Explanation,
        GetNodeConfigRequest, JoinToken as WireToken, ListJoinTokensRequest,
        ListJoinTokensResponse, ListNodesRequest, ListNodesResponse, NodeConfig, RequestHeader,
        RevokeNodeRequest, node_service_server::NodeService,
    },
    identity::{self, NodeName},
    model::{Id, Violations},
    secret::{Kind, Secret},
};
use http::{HeaderName, HeaderValue, Method};
use tonic::{Request, Response, Status};

use super::{Admin, change::caller, future, missing, new_id, now, page::Paging, parse_id};
use crate::{
    domain::{JoinToken, Namespace},
    error::Error,
    nodes::Unanswered,
};

/// The longest target that is explained; a node takes a head of 64 KiB.
const TARGET: usize = 16 << 10;

/// Header lines of a request that is explained, and bytes of all of them.
const HEADERS: usize = 100;
const HEADER_BYTES: usize = 32 << 10;

#[tonic::async_trait]
impl NodeService for Admin {
    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let request = request.into_inner();
        let environment = match request.environment.as_str() {
            "" => None,
            named => Some(self.environment_of_nodes(named).await?),
        };
        let list = ["nodes", &request.environment];
        let paging = Paging::parse(request.page_size, &request.page_token, &list)?;
        let nodes = self.feed.nodes(environment.as_ref());
        let named =
            nodes.into_iter().map(|node| (format!("{}/{}", node.environment, node.node_id), node));
        let (page, next_page_token) = paging.cut_all(named.collect(), |(name, _)| name);
        let nodes = page.into_iter().map(|(_, node)| node).collect();
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }

    async fn get_node_config(
        &self,
        request: Request<GetNodeConfigRequest>,
    ) -> Result<Response<NodeConfig>, Status> {
        let GetNodeConfigRequest { node_id, environment, with_config } = request.into_inner();
        let environment = self.environment_of_nodes(&environment).await?;
        let id = parse_id("node_id", &node_id)?;
        let held = self.feed.nodes_here().holding(&environment, id.as_str(), with_config).await;
        let mut held = held.map_err(|unanswered| error(&environment, unanswered))?;
        let sides = [(Namespace::Keys, &mut held.keys), (Namespace::Config, &mut held.config)];
        for (ns, side) in sides {
            if let Some(side) = side {
                self.feed.compare(&environment, ns, side);
            }
        }
        Ok(Response::new(held))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let environment = self.environment_of_nodes(&request.environment).await?;
        let explained = self.feed.nodes_here().explain(&environment, request).await;
        Ok(Response::new(explained.map_err(|unanswered| error(&environment, unanswered))?))
    }

    async fn revoke_node(
        &self,
        request: Request<RevokeNodeRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let RevokeNodeRequest { node_id, environment } = request.into_inner();
        let node_id = parse_id("node_id", &node_id)?;
        let environment = self.environment(&environment, "").await?;
        let node = NodeName { environment, node_id };
        self.store.revoke_node(&node, &actor).await.map_err(Error::from)?;
        Ok(Response::new(()))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<WireToken>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let sent = request.join_token.ok_or_else(|| missing("join_token"))?;
        let ca = self.node_ca.ok_or(Error::NoNodeCa)?;
        let environment = self.environment(&request.environment, &sent.environment).await?;
        let secret = Secret::generate(Kind::JoinToken).map_err(Error::from)?;
        let token = parse(&sent, environment, &secret, now())?;
        let mut answer = wire(&token);
        if !request.validate_only {
            self.store.create_join_token(&token, &actor).await.map_err(Error::from)?;
            answer.token_value = identity::JoinToken::new(&secret, ca).expose().to_owned();
        }
        Ok(Response::new(answer))
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        let request = request.into_inner();
        let environment = self.environment_asked(&request.environment).await?;
        let list = ["join tokens", &request.environment];
        let paging = Paging::parse(request.page_size, &request.page_token, &list)?;
        let mut tokens = self.store.join_tokens().await.map_err(Error::from)?;
        tokens.retain(|token| environment.as_ref().is_none_or(|asked| *asked == token.environment));
        let (page, next_page_token) = paging.cut_all(tokens, |token| &token.token_id);
        let join_tokens = page.iter().map(wire).collect();
        Ok(Response::new(ListJoinTokensResponse { join_tokens, next_page_token }))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let id = parse_id("token_id", &request.into_inner().token_id)?;
        self.store.delete_join_token(id.as_str(), &actor).await.map_err(Error::from)?;
        Ok(Response::new(()))
    }
}

impl Admin {
    /// The environment whose nodes a request is about.
    async fn environment_of_nodes(&self, named: &str) -> Result<Id, Error> {
        let named = if named.is_empty() { Id::DEFAULT_ENVIRONMENT } else { named };
        let id = parse_id("environment", named)?;
        if self.feed.knows(&id) { Ok(id) } else { self.environment(named, "").await }
    }

    /// The one environment a list is of, which must exist; `None`: it is of all.
    async fn environment_asked(&self, named: &str) -> Result<Option<Id>, Error> {
        if named.is_empty() {
            return Ok(None);
        }
        self.environment(named, "").await.map(Some)
    }
}

fn error(environment: &Id, unanswered: Unanswered) -> Error {
    match unanswered {
        Unanswered::Unheard(why) => Error::NoNode { environment: environment.to_string(), why },
        Unanswered::Declined { .. } => Error::Declined(unanswered.to_string()),
    }
}

/// Whether it can be written as a request. What a node makes of it is for the node to say: a path with
/// dots in it is a good question.
fn check(request: &ExplainRequest) -> Result<(), Error> {
    let mut faults = Violations::default();
    if !request.method.is_empty() && Method::from_bytes(request.method.as_bytes()).is_err() {
        faults.add("method", "is no method: give one such as GET");
    }
    let breaks = |text: &str| text.bytes().any(|b| b.is_ascii_control() || b == b' ');
    match request.target.as_str() {
        "" => faults.add("target", "is missing: give a path such as /api/v1/users, or a URL"),
        long if long.len() > TARGET => {
            faults.add("target", format!("is longer than {TARGET} bytes"));
        }
        broken if breaks(broken) => faults.add("target", "holds a space or a control character"),
        _ => {}
    }
    if !request.from.is_empty() && request.from.parse::<std::net::IpAddr>().is_err() {
        faults.add("from", "is no address: give one such as 192.0.2.1");
    }
    for (field, id) in [("node_id", &request.node_id), ("key_id", &request.key_id)] {
        if !id.is_empty()
            && let Err(fault) = Id::parse(id)
        {
            faults.add(field, fault);
        }
    }
    check_headers(&request.headers, &mut faults);
    Ok(faults.or(())?)
}

/// What stands in one is never told: it may be a secret.
fn check_headers(headers: &[RequestHeader], faults: &mut Violations) {
    let bytes: usize = headers.iter().map(|line| line.name.len() + line.value.len()).sum();
    if headers.len() > HEADERS || bytes > HEADER_BYTES {
        faults.add("headers", format!("are more than {HEADERS} lines or {HEADER_BYTES} bytes"));
        return;
    }
    for (at, RequestHeader { name, value }) in headers.iter().enumerate() {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            faults.add(format!("headers[{at}].name"), "is no name of a header");
        }
        if HeaderValue::from_str(value).is_err() {
            faults.add(
                format!("headers[{at}].value"),
                "holds a line break or another control character",
            );
        }
    }
}

fn parse(
    sent: &WireToken,
    environment: Id,
    secret: &Secret,
    now: SystemTime,
) -> Result<JoinToken, Error> {
    let mut faults = Violations::default();
    let expires_at = future("expires_at", sent.expires_at, now, &mut faults);
    let expires_at = expires_at.unwrap_or(now + JoinToken::LIFETIME);
    if expires_at > now + JoinToken::LONGEST {
        faults.add("expires_at", "is more than 30 days ahead: give an earlier time");
    }
    let node_id = match sent.node_id.as_str() {
        "" => None,
        named => Id::parse(named).map_err(|fault| faults.add("node_id", fault)).ok(),
    };
    Ok(faults.or(JoinToken {
        token_id: new_id("join"),
        hash: secret.hash(),
        environment,
        node_id,
        created_at: now,
        expires_at,
    })?)
}

fn wire(token: &JoinToken) -> WireToken {
    WireToken {
        token_id: token.token_id.clone(),
        token_value: String::new(),
        environment: token.environment.to_string(),
        node_id: token.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_at: Some(token.created_at.into()),
        expires_at: Some(token.expires_at.into()),
    }
}
