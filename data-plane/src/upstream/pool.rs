//! Connections to targets: made here, kept while idle, used again.
//!
//! One set per worker thread, so nothing is locked. The last one put back is the first taken
//! (it is the least likely to have been closed by the target). Pools are keyed by authority and
//! know nothing of snapshots: a swap never touches a connection.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::connection::Connection;
use crate::{buffers::Buffers, target::ReadyTarget};

/// Idle connections kept for one target by one worker.
const MAX_IDLE: usize = 256;
/// How long one is kept. Common servers close theirs after 60 to 75 seconds: leave before them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// The idle connections of one worker.
#[derive(Default)]
pub(crate) struct Pools {
    // Borrowed for single calls below, none of which runs foreign code.
    idle: RefCell<HashMap<Box<str>, Vec<Idle>, foldhash::fast::RandomState>>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Why no connection to a target was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectFailed {
    /// There is no such host, or no address of it takes connections.
    Refused,
    /// No address answered before the deadline.
    TimedOut,
}

impl Pools {
    /// The idle connection that was used last.
    pub(super) fn take(&self, authority: &str) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(authority)?;
        while let Some(Idle { connection, .. }) = stack.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, unless it is closed, in use or one too many.
    pub(super) fn put(&self, authority: &str, mut connection: Box<Connection>) {
        if !connection.is_reusable() {
            return;
        }
        connection.rest();
        let mut idle = self.idle.borrow_mut();
        let kept = Idle { connection, since: Instant::now() };
        match idle.get_mut(authority) {
            Some(stack) if stack.len() >= MAX_IDLE => {}
            Some(stack) => stack.push(kept),
            None => drop(idle.insert(authority.into(), vec![kept])),
        }
    }

    /// Closes what was idle for too long. Called by the worker's patrol.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain(|idle| {
                idle.connection.is_quiet() && now.duration_since(idle.since) < IDLE_TIMEOUT
            });
            !stack.is_empty()
        });
    }
}

/// Connects to a target, trying all its addresses.
///
/// # Errors
/// When none answers before the deadline.
pub(super) async fn connect(
    target: &ReadyTarget,
    deadline: Instant,
    buffers: &Rc<Buffers>,
) -> Result<Box<Connection>, ConnectFailed> {
    let port = target.target.url.port();
    let host = target.target.url.host();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return open(SocketAddr::new(address, port), deadline, buffers).await;
    }
    let found = timeout_at(deadline, tokio::net::lookup_host((bare, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) => return Err(ConnectFailed::Refused),
        Err(_) => return Err(ConnectFailed::TimedOut),
    };
    let mut failed = ConnectFailed::Refused;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // Each gets a fair share of the time, or a first one that drops packets would use it all.
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now).checked_div(left).unwrap_or_default();
        match open(address, now + share, buffers).await {
            Ok(connection) => return Ok(connection),
            Err(why) => failed = why,
        }
        left = left.saturating_sub(1);
    }
    Err(failed)
}

async fn open(
    address: SocketAddr,
    deadline: Instant,
    buffers: &Rc<Buffers>,
) -> Result<Box<Connection>, ConnectFailed> {
    let connecting = timeout_at(deadline, TcpStream::connect(address)).await;
    let stream = connecting.map_err(|_| ConnectFailed::TimedOut)?;
    let stream = stream.map_err(|_| ConnectFailed::Refused)?;
    stream.set_nodelay(true).map_err(|_| ConnectFailed::Refused)?;
    Ok(Box::new(Connection::new(stream, buffers.clone())))
}
