//! What a client is answered, whatever protocol writes it.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use crate::{
    exchange::Exchange, forwarding, framing::Framing, head::Kind, shared::Shared,
    upstream::UpstreamAnswer,
};

/// An answer.
pub(crate) enum Reply {
    /// The gateway's own, whole.
    Own(Response<Bytes>),
    /// An upstream's.
    Upstream(UpstreamAnswer),
}

impl Reply {
    /// The status the client is sent.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Own(response) => response.status(),
            Self::Upstream(answer) => answer.status(),
        }
    }

    /// Whether nothing more may be read from the client's connection.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Own(response) => response.headers().contains_key(header::CONNECTION),
            Self::Upstream(_) => false,
        }
    }

    /// Notes that it begins, and what of it is recorded.
    pub(crate) fn begins(&self, worker: &Shared, exchange: &mut Exchange) {
        exchange.answers(self.status());
        if let Some(mut recorded) = exchange.streamed.recorded.take() {
            if !recorded.rules.response_headers.is_empty() {
                let mut see = |name: &[u8], value: &[u8]| recorded.see_answer_line(name, value);
                self.lines(worker, exchange, &mut see);
                self.length_line(&mut see);
            }
            exchange.streamed.recorded = Some(recorded);
        }
    }

    /// Shows the line that says how long the body is, where that is known.
    pub(crate) fn length_line(&self, mut put: impl FnMut(&[u8], &[u8])) {
        let mut number = itoa::Buffer::new();
        let length = match self {
            // 204 has no body to tell of (RFC 9110 section 8.6).
            _ if self.status() == StatusCode::NO_CONTENT => None,
            Self::Own(response) => Some(number.format(response.body().len()).as_bytes()),
            Self::Upstream(answer) => match answer.framing() {
                Framing::Length(length) => Some(number.format(length).as_bytes()),
                // An answer to HEAD says how long the body would be.
                Framing::Absent => answer.lines().values(Kind::ContentLength).next(),
                Framing::Chunked | Framing::UntilClose => None,
            },
        };
        length.into_iter().for_each(|length| put(b"content-length", length));
    }

    /// Shows each header line, all but those that are the protocol's own: of the connection, and
    /// of how long the body is.
    pub(crate) fn lines(
        &self,
        worker: &Shared,
        exchange: &Exchange,
        mut put: impl FnMut(&[u8], &[u8]),
    ) {
        let limit_headers = worker.settings.limit_headers;
        let tells_limits = limit_headers.tell(&exchange.standings);
        let mut has_date = false;
        match self {
            Self::Own(response) => {
                let lines = response.headers().iter();
                for (name, value) in lines.filter(|(name, _)| *name != header::CONNECTION) {
                    put(name.as_str().as_bytes(), value.as_bytes());
                }
            }
            Self::Upstream(answer) => {
                for line in forwarding::to_client(answer.lines()) {
                    match line.kind {
                        Kind::RequestId => continue,
                        Kind::RateLimit if tells_limits => continue,
                        Kind::Date => has_date = true,
                        _ => {}
                    }
                    put(line.name, line.value);
                }
            }
        }
        put(forwarding::REQUEST_ID, exchange.request_id());
        if tells_limits {
            limit_headers.lines(&exchange.standings, &mut put);
        }
        if !has_date {
            // Whoever has a clock says when an answer was made (RFC 9110 section 6.6.1).
            put(b"date", &worker.dates.text(exchange.timestamp()));
        }
    }
}
