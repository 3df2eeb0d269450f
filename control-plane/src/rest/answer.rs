//! What a REST caller reads: a message as JSON, or problem+json (RFC 9457).

use fastgate::escape::safe_json;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use serde::Serialize;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use super::{endpoint::Endpoint, json::Shown};

/// A call that succeeded.
pub(super) struct Answer {
    status: StatusCode,
    /// Where what was created is.
    location: Option<String>,
    /// `None` where there is nothing to say.
    message: Option<DynamicMessage>,
}

/// Why a call did not.
pub(super) enum Refusal {
    NoSuchPath,
    NoSuchVerb {
        allowed: Vec<Method>,
    },
    TooLarge {
        limit: usize,
    },
    /// The body says that it is not JSON.
    OtherKind,
    /// The connection broke within the body.
    BrokenBody,
    SlowBody,
    /// What the service said.
    Call(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// What programs tell failures apart by.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

#[derive(Serialize)]
struct FieldError {
    field: String,
    detail: String,
}

impl Answer {
    pub(super) fn new(
        endpoint: &Endpoint,
        path: &str,
        request: &DynamicMessage,
        reply: DynamicMessage,
    ) -> Self {
        if reply.descriptor().full_name() == "google.protobuf.Empty" {
            return Self { status: StatusCode::NO_CONTENT, location: None, message: None };
        }
        let dry = request.get_field_by_name("validate_only").and_then(|value| value.as_bool());
        if !endpoint.creates || dry == Some(true) {
            return Self { status: StatusCode::OK, location: None, message: Some(reply) };
        }
        // The first field of everything that can be created is its id.
        let id = reply.get_field_by_number(1);
        let id = id.as_ref().and_then(|id| id.as_str()).unwrap_or_default();
        let environment = request.get_field_by_name("environment");
        let environment = environment.as_ref().and_then(|value| value.as_str());
        let query = match environment.filter(|environment| !environment.is_empty()) {
            Some(environment) => format!("?environment={environment}"),
            None => String::new(),
        };
        let location = Some(format!("{path}/{id}{query}"));
        Self { status: StatusCode::CREATED, location, message: Some(reply) }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let Some(message) = self.message else {
            return plain(self.status, "", String::new());
        };
        let Ok(body) = serde_json::to_string(&Shown(&message)) else {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer has no JSON form", None);
        };
        let mut response = plain(self.status, "application/json", safe_json(body));
        if let Some(Ok(location)) = self.location.map(HeaderValue::try_from) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        match self {
            Self::NoSuchPath => {
                problem(StatusCode::NOT_FOUND, "nothing of the admin API has this path", None)
            }
            Self::NoSuchVerb { allowed } => not_allowed(&allowed),
            Self::TooLarge { limit } => {
                let detail = format!("the body is larger than {limit} bytes: send less at once");
                problem(StatusCode::PAYLOAD_TOO_LARGE, &detail, None)
            }
            Self::OtherKind => {
                let detail = "the body must be JSON: send 'Content-Type: application/json'";
                let response = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, None);
                // RFC 9110 section 15.5.16.
                with_header(response, header::ACCEPT, "application/json")
            }
            Self::BrokenBody => problem(StatusCode::BAD_REQUEST, "the body ended too soon", None),
            Self::SlowBody => {
                problem(StatusCode::REQUEST_TIMEOUT, "the body took too long to come", None)
            }
            Self::Call(status) => {
                let code = http_status(status.code());
                let response = problem(code, status.message(), Some(&status));
                if code == StatusCode::UNAUTHORIZED {
                    return with_header(response, header::WWW_AUTHENTICATE, "Bearer");
                }
                response
            }
        }
    }
}

/// The HTTP status of a gRPC code, as google.rpc.Code documents them; a stale etag is 409 too.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        // The only thing that runs out here is the size of a message.
        Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
        // 499 is nginx's, for a client that went away: nobody reads it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn problem(status: StatusCode, detail: &str, said: Option<&Status>) -> Response<Body> {
    let details = said.map(|status| status.get_error_details()).unwrap_or_default();
    let errors = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let errors = errors.unwrap_or_default().iter().map(|violation| FieldError {
        field: violation.field.clone(),
        detail: violation.description.clone(),
    });
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail,
        reason: details.error_info().map(|info| info.reason.clone()),
        errors: errors.collect(),
    };
    // Text and numbers alone can't fail to be written.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    plain(status, "application/problem+json", body)
}

fn with_header(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The answer to another verb than the path takes.
pub(crate) fn not_allowed(allowed: &[Method]) -> Response<Body> {
    let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let detail = format!("this path takes {allowed}");
    let response = problem(StatusCode::METHOD_NOT_ALLOWED, &detail, None);
    with_header(response, header::ALLOW, &allowed)
}

/// A response with a body of some kind, which no cache may keep.
pub(crate) fn plain(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
