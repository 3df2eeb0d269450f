//! What single settings look like.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use fastgate::{model::Labels, settings::parse_bytes};
use http::Uri;

use crate::network::Network;

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("is no address: '{text}': give one such as 127.0.0.1:8000"))
}

pub(super) fn parse_count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("is '{text}': give a number from 1 on"))
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    let mend = || format!("is '{text}': give seconds above 0 and at most 86400");
    seconds.map(Duration::from_secs_f64).ok_or_else(mend)
}

/// Whether what is sent to this host never leaves the machine.
pub(super) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

pub(super) fn parse_body_size(text: &str) -> Result<Option<u64>, String> {
    let bytes = parse_bytes(text);
    let bytes = bytes.ok_or_else(|| format!("is '{text}': give bytes, such as 8MiB, or 0"))?;
    Ok((bytes > 0).then_some(bytes))
}

pub(super) fn parse_networks(text: &str) -> Result<Vec<Network>, String> {
    let parse = |text: &str| Network::parse(text.trim()).map_err(|fault| format!("has {fault}"));
    text.split(',').map(parse).collect()
}

pub(super) fn parse_labels(text: &str) -> Result<Labels, String> {
    Labels::parse(text.split(',').map(str::trim))
}

pub(super) fn parse_control_planes(text: &str) -> Result<Vec<Uri>, String> {
    let parse = |text: &str| {
        let mend = || format!("is no URL: '{text}': give one such as https://cp.internal:9001");
        let uri: Uri = text.trim().parse().map_err(|_| mend())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(mend)?;
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if is_this_machine(host) => Ok(uri),
            Some("http") => Err(format!(
                "is '{text}', which sends keys and logs as plain text to another machine: give \
                 https://{}, and a --join-token-file",
                uri.authority().map_or(host, |authority| authority.as_str()),
            )),
            _ => Err(mend()),
        }
    };
    text.split(',').map(parse).collect()
}
