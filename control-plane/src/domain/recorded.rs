//! What a route asks to be recorded of a request, as JSON: what the store keeps in one column.

use fastgate::admin::v1::{LogEvent, RecordedBody, RecordedHeader};
use serde::{Deserialize, Serialize};

/// The parts of an event that most have not; each as the API shows it, and left out where it is not.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Recorded {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_headers: Vec<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_headers: Vec<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<Body>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Body {
    content_type: String,
    text: String,
    truncated: bool,
    omitted: String,
}

/// What is kept of an event beside its columns; `None`: nothing.
pub(crate) fn recorded_of(event: &LogEvent) -> Option<String> {
    let LogEvent { request_headers, response_headers, request_body, response_body, .. } = event;
    let is_empty = request_headers.is_empty()
        && response_headers.is_empty()
        && request_body.is_none()
        && response_body.is_none();
    if is_empty {
        return None;
    }
    let recorded = Recorded {
        request_headers: request_headers.iter().map(Header::of).collect(),
        response_headers: response_headers.iter().map(Header::of).collect(),
        request_body: request_body.as_ref().map(Body::of),
        response_body: response_body.as_ref().map(Body::of),
    };
    // Texts and truths alone can't fail to be written.
    serde_json::to_string(&recorded).ok()
}

/// Puts what was kept back into an event.
pub(crate) fn put_recorded(kept: &str, event: &mut LogEvent) -> serde_json::Result<()> {
    let recorded: Recorded = serde_json::from_str(kept)?;
    let back = |headers: Vec<Header>| headers.into_iter().map(Header::back).collect();
    event.request_headers = back(recorded.request_headers);
    event.response_headers = back(recorded.response_headers);
    event.request_body = recorded.request_body.map(Body::back);
    event.response_body = recorded.response_body.map(Body::back);
    Ok(())
}

impl Header {
    fn of(header: &RecordedHeader) -> Self {
        Self { name: header.name.clone(), value: header.value.clone() }
    }

    fn back(self) -> RecordedHeader {
        RecordedHeader { name: self.name, value: self.value }
    }
}

impl Body {
    fn of(body: &RecordedBody) -> Self {
        let RecordedBody { content_type, text, truncated, omitted } = body.clone();
        Self { content_type, text, truncated, omitted }
    }

    fn back(self) -> RecordedBody {
        let Self { content_type, text, truncated, omitted } = self;
        RecordedBody { content_type, text, truncated, omitted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let header = |name: &str| RecordedHeader { name: name.into(), value: "a\0\"用".into() };
        let body =
            RecordedBody { text: "{\"a\":1}\0".into(), truncated: true, ..Default::default() };
        for event in [
            LogEvent { request_headers: vec![header("a"), header("a")], ..LogEvent::default() },
            LogEvent { response_headers: vec![header("b")], ..LogEvent::default() },
            LogEvent { request_body: Some(body.clone()), ..LogEvent::default() },
            LogEvent { response_body: Some(body), ..LogEvent::default() },
        ] {
            let kept = recorded_of(&event).expect("something");
            assert!(!kept.contains('\0'), "{kept}");
            let mut back = LogEvent::default();
            put_recorded(&kept, &mut back).expect("reads");
            assert_eq!(back, event);
        }
        assert_eq!(recorded_of(&LogEvent::default()), None);
    }
}
