//! REST over the gRPC services: what the `google.api.http` annotations say, nothing by hand.
//!
//! ```text
//! PUT /admin/keys/k1?validate_only=true  {"rate_limit": null}
//!   endpoint  KeyService/UpdateKey, key.key_id = "k1"
//!   access    before the body is read
//!   request   {key: {key_id: "k1"}, update_mask: "rate_limit", validate_only: true}
//!   gate      the same call gRPC clients make, in this process
//!   answer    the message as JSON, or problem+json
//! ```

mod answer;
mod call;
mod endpoint;
mod json;
mod percent;
mod request;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use tonic::{Status, body::Body};

use crate::{
    admin::{MAX_CONFIG, MAX_MESSAGE},
    error::Error,
    gate::{DEADLINE, Gate},
};
use answer::{Answer, Refusal};
pub(crate) use answer::{not_allowed, plain};
use endpoint::{Endpoint, Endpoints};
pub use json::Shown;

/// Bytes read of a body that is too large, and how long that may take.
const DISCARDED: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Turns REST calls into gRPC calls.
#[derive(Clone)]
pub(crate) struct Rest {
    endpoints: Arc<Endpoints>,
}

impl Rest {
    /// Reads the annotations of all methods; `Err` says which one is wrong.
    pub(crate) fn new(pool: &DescriptorPool) -> Result<Self, String> {
        Ok(Self { endpoints: Arc::new(Endpoints::new(pool)?) })
    }

    pub(crate) async fn answer(
        &self,
        gate: Gate,
        request: Request<Incoming>,
    ) -> http::Response<Body> {
        match self.call(gate, request).await {
            Ok(answer) => answer.into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn call(&self, gate: Gate, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let (endpoint, variables) = self.endpoints.find(&head.method, head.uri.path())?;
        // Before the body is read: who may not call may not make the server work either.
        gate.access.admit(&head.headers, &endpoint.rpc).await.map_err(Status::from)?;
        let waits = head.headers.contains_key(header::EXPECT);
        let body = read(body, endpoint, waits).await?;
        let query = head.uri.query().unwrap_or_default();
        let message = request::message(endpoint, variables, query, &body)
            .map_err(|faults| Status::from(Error::Invalid(faults)))?;
        let reply = call::unary(gate, endpoint, &head.headers, &message).await?;
        Ok(Answer::new(endpoint, head.uri.path(), &message, reply))
    }
}

/// The body of a request that takes one. `waits`: the client sends it only once it is asked to.
async fn read(mut body: Incoming, endpoint: &Endpoint, waits: bool) -> Result<Vec<u8>, Refusal> {
    if !endpoint.takes_body() {
        return Ok(Vec::new());
    }
    let limit = if endpoint.takes_config() { MAX_CONFIG } else { MAX_MESSAGE };
    if body.size_hint().lower() > limit as u64 {
        if !waits {
            discard(&mut body).await;
        }
        return Err(Refusal::TooLarge { limit });
    }
    match tokio::time::timeout(DEADLINE, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(Refusal::TooLarge { limit })
        }
        Ok(Err(_)) => Err(Refusal::BrokenBody),
        Err(_) => Err(Refusal::SlowBody),
    }
}

/// Reads what is on its way, within bounds: most clients look for an answer only when they have
/// sent all, and a connection closed before that would look like a fault to them.
async fn discard(body: &mut Incoming) {
    let reading = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended or took too long, the answer is the same.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}
