//! A gRPC call within this process.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Version,
    header::{AUTHORIZATION, CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tonic::{Code, Status, body::Body};

use super::endpoint::Endpoint;
use crate::gate::Gate;

/// What stands before a message on the wire: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// Calls a method through the gate, as the caller these headers name.
pub(super) async fn unary(
    gate: Gate,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: &DynamicMessage,
) -> Result<DynamicMessage, Status> {
    let broken = |_| Status::internal("a call within the process broke");
    let mut request = Request::new(Body::new(Full::new(frame(message))));
    *request.uri_mut() = endpoint.rpc.parse().map_err(|_| broken(()))?;
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let own = request.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    own.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        own.insert(AUTHORIZATION, authorization.clone());
    }
    let (head, body) = gate.answer(request).await.into_parts();
    check(&head.headers)?;
    let body = body.collect().await?;
    if let Some(trailers) = body.trailers() {
        check(trailers)?;
    }
    let bytes = body.to_bytes();
    let reply = bytes.get(FRAME_HEAD..).unwrap_or_default();
    DynamicMessage::decode(endpoint.output.clone(), reply).map_err(|_| broken(()))
}

fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + length);
    frame.put_u8(0);
    // Bodies are far below 4 GiB; a length that did not fit would be refused as broken.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

fn check(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
