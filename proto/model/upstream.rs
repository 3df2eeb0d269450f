//! Upstreams: where requests go.

use std::{fmt, time::Duration};

use url::Url;

use super::{Id, Violations, bounds, check, labels};
use crate::{admin::v1, path};

/// A named set of weighted targets.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    /// Chosen by the user; routes name it.
    pub upstream_id: Id,
    /// At least one, of which at least one has a weight.
    pub targets: Vec<Target>,
    /// How long to wait for a connection to one of them.
    pub connect_timeout: Duration,
}

impl Upstream {
    /// How long to wait for a connection where nothing else is said.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::Upstream) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let upstream_id = faults.take("upstream_id", Id::parse(&wire.upstream_id), Id::unknown());
        faults.take("description", check::text(&wire.description), String::new());
        let targets = Target::parse_all(&wire.targets, &mut faults);
        let connect_timeout = check::seconds(wire.connect_timeout);
        let connect_timeout = faults.take("connect_timeout", connect_timeout, None);
        let connect_timeout = connect_timeout.unwrap_or(Self::CONNECT_TIMEOUT);
        labels::check(&wire.labels, &mut faults);
        faults.or(Self { upstream_id, targets, connect_timeout })
    }
}

/// One place requests can go.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// Its address and base path.
    pub url: TargetUrl,
    /// Its share among the targets; 0 takes no traffic.
    pub weight: u32,
    /// How long one attempt may take to the response head; `None`: the route's timeout.
    pub timeout: Option<Duration>,
}

impl Target {
    pub(super) fn parse_all(wire: &[v1::Target], faults: &mut Violations) -> Vec<Self> {
        if wire.is_empty() {
            faults.add("targets", "are missing: give at least one, with a 'url'");
        }
        if wire.len() > bounds::TARGETS {
            faults.add("targets", format!("are more than {}", bounds::TARGETS));
        }
        if !wire.is_empty() && wire.iter().all(|target| target.weight == Some(0)) {
            faults.add("targets", "all have weight 0: give at least one a weight above 0");
        }
        let mut targets = Vec::with_capacity(wire.len());
        for (at, target) in wire.iter().enumerate() {
            match Self::parse(target) {
                Ok(target) => targets.push(target),
                Err(part) => faults.add_below(&format!("targets[{at}]"), part),
            }
        }
        targets
    }

    fn parse(wire: &v1::Target) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let weight = wire.weight.unwrap_or(1);
        if !(0..=bounds::WEIGHT).contains(&weight) {
            faults.add("weight", format!("is {weight}: give 0 to {}", bounds::WEIGHT));
        }
        let timeout = faults.take("timeout", check::seconds(wire.timeout), None);
        match TargetUrl::parse(&wire.url) {
            Ok(url) => faults.or(Self { url, weight: weight.unsigned_abs(), timeout }),
            Err(description) => {
                faults.add("url", description);
                Err(faults)
            }
        }
    }
}

/// The URL of a target: `http://host[:port][/base/path]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    text: Box<str>,
    host: Box<str>,
    port: u16,
    base_path: Box<str>,
}

impl TargetUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing: give one such as 'http://10.0.0.5:8080'".into());
        }
        if text.len() > bounds::PATH {
            return Err(format!("is longer than {} bytes", bounds::PATH));
        }
        let url = Url::parse(text).map_err(|fault| {
            format!("is no URL ({fault}): give one such as 'http://10.0.0.5:8080'")
        })?;
        match url.scheme() {
            "http" => {}
            "https" => return Err("asks for https, which is not supported yet: use http".into()),
            other => return Err(format!("has the scheme '{other}': use http")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or password: remove it".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("holds a query or fragment: remove it".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("has no host: give one such as 'http://10.0.0.5:8080'")?;
        let port = url.port_or_known_default().unwrap_or(80);
        if port == 0 {
            return Err("has port 0: give the port the target listens on".into());
        }
        path::check(url.path().as_bytes(), false).map_err(|fault| fault.to_string())?;
        Ok(Self {
            text: text.into(),
            host: host.into(),
            port,
            base_path: url.path().trim_end_matches('/').into(),
        })
    }

    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host name or address; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 80 when not written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes before every path, without a trailing slash: often empty.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.base_path
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}
