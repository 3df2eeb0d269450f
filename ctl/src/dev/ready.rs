//! When everything serves, and how that is told.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::demo;
use crate::{
    context::write_private,
    error::{DevError, Error},
};

/// How long anything may take to answer for the first time.
pub(super) const WITHIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
const ONE_TRY: Duration = Duration::from_secs(2);

/// The file that tells programs where everything is. It is there while everything serves: before
/// and after that an old one would name ports that nobody, or anybody, listens on.
pub(super) struct ReadyFile<'a>(&'a Path);

impl<'a> ReadyFile<'a> {
    /// Takes away what an earlier run left.
    pub(super) fn clear(path: &'a Path) -> Self {
        let file = Self(path);
        file.remove();
        file
    }

    /// Writes it whole or not at all, for the owner's eyes only.
    pub(super) fn write(&self, ready: &Ready<'_>) -> Result<(), Error> {
        let json = serde_json::json!({
            "proxy_url": ready.proxy_url,
            "admin_url": ready.admin_url,
            "admin_token": ready.admin_token.expose_secret(),
            "api_key": ready.api_key.expose_secret(),
        });
        write_private(self.0, format!("{json:#}\n").as_bytes())
    }

    fn remove(&self) {
        // What can't be removed can't be replaced either, which writing it will say.
        drop(std::fs::remove_file(self.0));
    }
}

impl Drop for ReadyFile<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// All a user needs to begin.
pub(super) struct Ready<'a> {
    pub(super) proxy_url: String,
    pub(super) admin_url: String,
    pub(super) admin_token: &'a SecretString,
    pub(super) api_key: &'a SecretString,
}

impl Ready<'_> {
    /// A URL that answers with the key.
    pub(super) fn demo_url(&self) -> String {
        format!("{}{}/hello", self.proxy_url, demo::PREFIX)
    }

    /// Waits until the node is ready.
    pub(super) async fn wait_for_node(&self, ops: SocketAddr) -> Result<(), DevError> {
        let url = format!("http://{ops}/ready");
        let ready = retry(async |client| expect_ok(client, Request::get(&url)).await).await;
        ready.map_err(|last| DevError::NotReady { within: WITHIN, last })
    }

    /// Waits until the demo answers through the proxy; otherwise says what came last. The route
    /// is the user's to change, so this may be as they want it.
    pub(super) async fn wait_for_demo(&self) -> Result<(), String> {
        let key = self.api_key.expose_secret();
        let url = self.demo_url();
        retry(async |client| expect_ok(client, Request::get(&url).header("x-api-key", key)).await)
            .await
    }
}

async fn retry(attempt: impl AsyncFn(&Http) -> Result<(), String>) -> Result<(), String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let deadline = Instant::now() + WITHIN;
    loop {
        match attempt(&client).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            last => return last,
        }
    }
}

type Http = Client<HttpConnector, Empty<Bytes>>;

async fn expect_ok(client: &Http, request: http::request::Builder) -> Result<(), String> {
    let request = request.body(Empty::new()).map_err(|fault| fault.to_string())?;
    let url = request.uri().clone();
    match tokio::time::timeout(ONE_TRY, client.request(request)).await {
        Ok(Ok(answer)) if answer.status() == StatusCode::OK => Ok(()),
        Ok(Ok(answer)) => Err(format!("{url} answered {}", answer.status())),
        Ok(Err(fault)) => Err(format!("{url}: {fault}")),
        Err(_) => Err(format!("{url} did not answer")),
    }
}
