//! Heads that can't be read, by hyper or in time: they are answered and recorded like all others.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Gateway;
use crate::{
    error::Refusal,
    exchange::{Exchange, Heard},
    forwarding,
    request_line::RequestLine,
    respond,
};

impl Gateway {
    /// Answers a head that can't be read, with the status found for it. Returns what to write.
    pub(crate) fn refuse_unread(&self, status: StatusCode) -> Bytes {
        let (method, target) = self.watch.with_request_line(RequestLine::read);
        let headers = &HeaderMap::new();
        let heard = Heard {
            peer: self.peer.address,
            method: &method,
            target: &target,
            headers,
            has_body: true,
        };
        let mut exchange = Exchange::begin(&self.worker, &heard, self.watch.request(None));
        let refusal = Refusal::of_unread_head(status);
        exchange.error = Some(refusal.audit_name());
        let mut response = respond::refuse(&refusal, &exchange.request_id);
        response.headers_mut().insert(forwarding::REQUEST_ID, exchange.request_id.clone());
        exchange.answer_at_once(&response);
        respond::last_bytes(&response)
    }
}
