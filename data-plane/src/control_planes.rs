//! Where control planes are, and how this node connects to them: in plain text on this machine, elsewhere
//! with its certificate.

use std::{sync::Arc, time::SystemTime};

use http::Uri;
use tokio::{sync::watch, time::timeout};
use tonic::transport::Channel;

use crate::{
    credentials::Standing,
    dial::{self, CONNECT_TIMEOUT},
};

/// The control planes of a node, the preferred one first. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControlPlanes {
    uris: Arc<[Uri]>,
    /// `None`: all of them are on this machine.
    standing: Option<watch::Receiver<Standing>>,
}

/// A connection, and the credentials it was made with.
pub(crate) struct Connected {
    pub(crate) channel: Channel,
    standing: Option<watch::Receiver<Standing>>,
}

impl ControlPlanes {
    /// Those at `uris`; `standing` says with what to connect to those that speak TLS.
    pub(crate) fn new(uris: Vec<Uri>, standing: Option<watch::Receiver<Standing>>) -> Self {
        Self { uris: uris.into(), standing }
    }

    pub(crate) fn uris(&self) -> &[Uri] {
        &self.uris
    }

    /// Connects to one of them.
    ///
    /// # Errors
    /// Why it can't be reached.
    pub(crate) async fn connect(&self, uri: &Uri) -> Result<Connected, String> {
        let endpoint = dial::endpoint(uri);
        let is_tls = uri.scheme_str() == Some("https");
        let Some(mut standing) = self.standing.clone().filter(|_| is_tls) else {
            let channel = dial::connect_to(&endpoint).await?;
            return Ok(Connected { channel, standing: None });
        };
        // At the start the node may be about to join.
        drop(timeout(CONNECT_TIMEOUT, standing.wait_for(Result::is_ok)).await);
        let held = standing.borrow_and_update().clone();
        let held = held.map_err(|why| format!("the node has not joined: {why}"))?;
        let endpoint = endpoint.tls_config(held.tls()).map_err(|fault| dial::innermost(&fault))?;
        let channel = dial::connect_to(&endpoint).await?;
        Ok(Connected { channel, standing: Some(standing) })
    }

    /// Seconds until the node's certificate ends, below zero once it has; `None`: it has none.
    pub(crate) fn certificate_seconds(&self) -> Option<i64> {
        let held = self.standing.as_ref()?.borrow().clone().ok()?;
        let seconds = |span: std::time::Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Some(match held.ends().duration_since(SystemTime::now()) {
            Ok(left) => seconds(left),
            Err(past) => -seconds(past.duration()),
        })
    }
}

impl Connected {
    /// Returns when the node has other credentials than this connection was made with.
    pub(crate) async fn outdated(&mut self) {
        if let Some(standing) = &mut self.standing
            && standing.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl From<Vec<Uri>> for ControlPlanes {
    /// Control planes on this machine.
    fn from(uris: Vec<Uri>) -> Self {
        Self::new(uris, None)
    }
}
