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
mod body;
mod call;
mod endpoint;
mod json;
mod percent;
mod request;
mod stream;

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use tonic::{Status, body::Body};

use crate::{error::Error, gate::Gate};
use answer::{Answer, Refusal};
pub(crate) use answer::{not_allowed, plain};
use endpoint::Endpoints;
pub use json::{Shown, message as read_message, sorted_pairs};

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
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn call(
        &self,
        gate: Gate,
        request: Request<Incoming>,
    ) -> Result<http::Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let (endpoint, variables) = self.endpoints.find(&head.method, head.uri.path())?;
        // Before the body is read: who may not call may not make the server work either.
        gate.access.admit(&head.headers, &endpoint.rpc).await.map_err(Status::from)?;
        let body = body::read(&head.headers, body, endpoint).await?;
        let query = head.uri.query().unwrap_or_default();
        let message = request::message(endpoint, variables, query, &body)
            .map_err(|faults| Status::from(Error::Invalid(faults)))?;
        if endpoint.streams {
            let answered = call::begin(gate, endpoint, &head.headers, &message).await?;
            return stream::answer(endpoint, answered).await;
        }
        let reply = call::unary(gate, endpoint, &head.headers, &message).await?;
        Ok(Answer::new(endpoint, head.uri.path(), &message, reply).into_response())
    }
}
