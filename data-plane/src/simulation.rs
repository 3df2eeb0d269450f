//! What a node in a simulation has in place of the machine's network and chance. It is compiled for tests
//! alone: [`crate::dial`] and [`crate::backoff`] ask for it there.

use std::{cell::RefCell, io};

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;
use turmoil::net::TcpStream;

use crate::random::Random;

thread_local! {
    static CHANCE: RefCell<Random> = RefCell::new(Random::of_seed(0));
}

/// Begins a run on this thread: with the same seed it has the same numbers.
pub(crate) fn seed(seed: u64) {
    CHANCE.set(Random::of_seed(seed));
}

/// The next number of the run.
pub(crate) fn random() -> u32 {
    CHANCE.with_borrow(|chance| (chance.next() >> 32) as u32)
}

/// Connects over the simulated network, with everything else as the endpoint has it.
pub(crate) async fn connect_to(endpoint: &Endpoint) -> Result<Channel, Error> {
    let connector = service_fn(|uri: Uri| async move {
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default());
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect((host, port)).await?))
    });
    endpoint.connect_with_connector(connector).await
}
