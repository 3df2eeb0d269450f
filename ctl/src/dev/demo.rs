//! What a new user finds: an upstream, a route to it and a key. Made through the API like any
//! other; where they exist, only the upstream's port is brought up to date.

use std::net::SocketAddr;

use fastgate::admin::v1::{
    CreateKeyRequest, CreateRouteRequest, CreateUpstreamRequest, GetKeyRequest, Key, Route, Target,
    UpdateUpstreamRequest, Upstream,
};
use prost_types::FieldMask;
use tonic::Code;

use super::data::{DataDir, DemoKey};
use crate::{client::Client, error::Error};

/// The route's prefix.
pub(super) const PREFIX: &str = "/demo";
const ID: &str = "demo";
/// Requests a minute: enough to play, little enough to see a 429.
const RATE_LIMIT: i64 = 600;

/// Sees to it that the demo is there.
pub(super) async fn prepare(
    client: &Client,
    data: &DataDir,
    upstream: SocketAddr,
) -> Result<DemoKey, Error> {
    point_upstream_to(client, upstream).await?;
    create_route(client).await?;
    if let Some(key) = data.demo_key()
        && is_active(client, &key).await?
    {
        return Ok(key);
    }
    let key = create_key(client).await?;
    data.keep_demo_key(&key)?;
    Ok(key)
}

async fn point_upstream_to(client: &Client, address: SocketAddr) -> Result<(), Error> {
    let upstream = Some(Upstream {
        upstream_id: ID.into(),
        description: "answers with what it was sent; made by fgctl dev".into(),
        targets: vec![Target { url: format!("http://{address}"), ..Default::default() }],
        ..Default::default()
    });
    let environment = client.environment();
    let request = CreateUpstreamRequest {
        upstream: upstream.clone(),
        environment: environment.clone(),
        ..Default::default()
    };
    match client.upstreams().create_upstream(request).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            let update_mask = Some(FieldMask { paths: vec!["targets".into()] });
            let request =
                UpdateUpstreamRequest { upstream, update_mask, environment, validate_only: false };
            client.upstreams().update_upstream(request).await?;
            Ok(())
        }
        created => Ok(created.map(drop)?),
    }
}

async fn create_route(client: &Client) -> Result<(), Error> {
    let route = Route {
        route_id: ID.into(),
        name: "demo".into(),
        path_prefix: PREFIX.into(),
        upstream: ID.into(),
        strip_prefix: true,
        ..Default::default()
    };
    let environment = client.environment();
    let request = CreateRouteRequest { route: Some(route), environment, ..Default::default() };
    match client.routes().create_route(request).await {
        // It is the user's by now.
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        created => Ok(created.map(drop)?),
    }
}

async fn is_active(client: &Client, key: &DemoKey) -> Result<bool, Error> {
    let key_id = key.key_id.clone();
    let request = GetKeyRequest { key_id, environment: client.environment() };
    match client.keys().get_key(request).await {
        Ok(key) => Ok(key.get_ref().is_active.unwrap_or(true)),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status.into()),
    }
}

async fn create_key(client: &Client) -> Result<DemoKey, Error> {
    let key = Key {
        source_path: ID.into(),
        rate_limit: Some(RATE_LIMIT),
        description: "made by fgctl dev, which keeps its secret in the data folder".into(),
        ..Default::default()
    };
    let environment = client.environment();
    let request = CreateKeyRequest { key: Some(key), environment, ..Default::default() };
    let key = client.keys().create_key(request).await?.into_inner();
    Ok(DemoKey { key_id: key.key_id, value: key.key_value.into() })
}
