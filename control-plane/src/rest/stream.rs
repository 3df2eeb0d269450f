//! An answer of many messages: the parts of a file as the file itself, all else as JSON, a line each.

use bytes::Bytes;
use fastgate::escape::safe_json;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost_reflect::{DynamicMessage, Value};
use tonic::{Status, body::Body};

use super::{answer::Refusal, call::Messages, endpoint::Endpoint, json::Shown};
use crate::streams::Endless;

/// Answers with the messages of an answer, as they come. What goes wrong before the first part of
/// a file is a refusal; after that, the body breaks off.
pub(super) async fn answer(
    endpoint: &Endpoint,
    answered: Response<Body>,
) -> Result<Response<Body>, Refusal> {
    let endless = answered.extensions().get::<Endless>().copied();
    let is_file = endpoint.output.full_name() == "fastgate.admin.v1.FilePart";
    let mut messages = Messages::new(endpoint, answered.into_body());
    // A line may be long in coming, and the first part of a file says what it is.
    let first = if is_file { messages.next().await? } else { None };
    let kind = first.as_ref().and_then(|part| part.get_field_by_name("content_type"));
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("application/jsonl");
    let kind = HeaderValue::try_from(kind).ok();
    let parts = stream::try_unfold((first, messages), move |(first, mut messages)| async move {
        let message = match first {
            Some(message) => Some(message),
            None => messages.next().await?,
        };
        let Some(message) = message else { return Ok(None) };
        let bytes = if is_file { data(&message) } else { line(&message)? };
        Ok::<_, Status>(Some((Frame::data(bytes), (None, messages))))
    });
    let mut response = Response::new(Body::new(StreamBody::new(parts)));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
    // No browser is to take a file of what others sent for a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(endless) = endless {
        response.extensions_mut().insert(endless);
    }
    Ok(response)
}

fn data(part: &DynamicMessage) -> Bytes {
    match part.get_field_by_name("data").as_deref() {
        Some(Value::Bytes(bytes)) => bytes.clone(),
        _ => Bytes::new(),
    }
}

fn line(message: &DynamicMessage) -> Result<Bytes, Status> {
    let json = serde_json::to_string(&Shown(message));
    let json = json.map_err(|_| Status::internal("the answer has no JSON form"))?;
    Ok((safe_json(json) + "\n").into())
}
