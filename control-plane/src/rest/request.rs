//! From path, query and body to the request message of a method.

use fastgate::model::Violations;
use http::Method;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use prost_types::FieldMask;
use serde_json::Value as Json;

use super::{
    body,
    endpoint::{BodyField, Endpoint, Variable},
    json, percent,
};

/// The field of updates that says which fields they change.
const MASK: &str = "update_mask";

/// The request message of a call, or all that is wrong with it.
pub(super) fn message(
    endpoint: &Endpoint,
    variables: Vec<Variable>,
    query: &str,
    body: &[u8],
) -> Result<DynamicMessage, Violations> {
    let mut faults = Violations::default();
    let body = parse_body(endpoint, body, &mut faults);
    let mut message = DynamicMessage::new(endpoint.input.clone());
    match &endpoint.body {
        BodyField::Nothing => {}
        BodyField::Everything => message = json::message(&endpoint.input, &body, "", &mut faults),
        BodyField::One(field) => {
            if let Kind::Message(kind) = field.kind() {
                let value = json::message(&kind, &body, "", &mut faults);
                message.set_field(field, Value::Message(value));
            }
        }
    }
    let bound = bound_fields(endpoint, &variables);
    for variable in variables {
        set_variable(&mut message, variable, &mut faults);
    }
    set_query(&mut message, query, &bound, &mut faults);
    infer_mask(endpoint, &mut message, &body);
    faults.or(message)
}

/// A body that is absent stands for an empty object: all its fields are optional here.
fn parse_body(endpoint: &Endpoint, body: &[u8], faults: &mut Violations) -> Json {
    let empty = || Json::Object(serde_json::Map::new());
    if !endpoint.takes_body() || body.trim_ascii().is_empty() {
        return empty();
    }
    match body::parse(body, faults) {
        Ok(Json::Object(object)) => Json::Object(object),
        Ok(_) => {
            faults.add("body", "must be a JSON object");
            empty()
        }
        Err(fault) => {
            faults.add("body", format!("is not JSON: {fault}"));
            empty()
        }
    }
}

/// Fields of the request message that the path or the whole body sets: not for the query.
fn bound_fields(endpoint: &Endpoint, variables: &[Variable]) -> Vec<FieldDescriptor> {
    let by_path = variables.iter().filter_map(|variable| variable.fields.first()).cloned();
    let by_body = match &endpoint.body {
        BodyField::One(field) => Some(field.clone()),
        BodyField::Nothing | BodyField::Everything => None,
    };
    by_path.chain(by_body).collect()
}

fn set_variable(message: &mut DynamicMessage, variable: Variable, faults: &mut Violations) {
    let Variable { fields, value } = variable;
    let Some((last, parents)) = fields.split_last() else { return };
    let mut message = message;
    for parent in parents {
        let Value::Message(inner) = message.get_field_mut(parent) else { return };
        message = inner;
    }
    let sent = message.get_field(last);
    if sent.as_str().is_some_and(|sent| !sent.is_empty() && sent != value) {
        let fault = format!("is not '{value}', as the path says: remove it");
        faults.add(last.name(), fault);
    }
    if let Some(value) = json::scalar(&last.kind(), &from_text(last, value), last.name(), faults) {
        message.set_field(last, value);
    }
}

fn set_query(
    message: &mut DynamicMessage,
    query: &str,
    bound: &[FieldDescriptor],
    faults: &mut Violations,
) {
    let descriptor = message.descriptor();
    let free = || descriptor.fields().filter(|field| is_parameter(field) && !bound.contains(field));
    let mut seen = Vec::new();
    for pair in percent::pairs(query) {
        let Some((name, value)) = pair else {
            faults.add("query", "holds bytes that are not percent-encoded UTF-8");
            continue;
        };
        let Some(field) = free().find(|field| field.name() == name) else {
            let known: Vec<_> = free().map(|field| field.name().to_owned()).collect();
            faults.add(name, format!("is no parameter of this call: it takes {}", list(&known)));
            continue;
        };
        if message.has_field(&field) || seen.contains(&name) {
            faults.add(name, "is given twice: keep one");
            continue;
        }
        if let Some(value) = json::scalar(&field.kind(), &from_text(&field, value), &name, faults) {
            message.set_field(&field, value);
        }
        seen.push(name);
    }
}

/// Whether a field has a form in a query.
fn is_parameter(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(kind) => json::is_text(&kind),
        _ => !field.is_list() && !field.is_map(),
    }
}

/// The JSON that says the same as a query does in text.
fn from_text(field: &FieldDescriptor, text: String) -> Json {
    let bare = match field.kind() {
        Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => None,
        // Numbers and booleans are written alike in both.
        _ => serde_json::from_str(&text).ok(),
    };
    bare.unwrap_or(Json::String(text))
}

/// Without a mask, a PUT changes the fields its body names: those named null are cleared.
fn infer_mask(endpoint: &Endpoint, message: &mut DynamicMessage, body: &Json) {
    let Some(field) = endpoint.input.get_field_by_name(MASK) else { return };
    if endpoint.verb != Method::PUT || message.has_field(&field) {
        return;
    }
    let Json::Object(named) = body else { return };
    let mask = FieldMask { paths: named.keys().cloned().collect() };
    if let (Kind::Message(kind), false) = (field.kind(), mask.paths.is_empty()) {
        let mut value = DynamicMessage::new(kind);
        if value.transcode_from(&mask).is_ok() {
            message.set_field(&field, Value::Message(value));
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1;
    use prost_reflect::DescriptorPool;

    use super::{super::endpoint::Endpoints, *};

    fn parse(
        verb: Method,
        path: &str,
        query: &str,
        body: &str,
    ) -> Result<DynamicMessage, Vec<String>> {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let endpoints = Endpoints::new(&pool).expect("right annotations");
        let (endpoint, variables) =
            endpoints.find(&verb, path).unwrap_or_else(|_| panic!("{verb} {path}"));
        message(endpoint, variables, query, body.as_bytes())
            .map_err(|faults| faults.iter().map(|fault| fault.field.clone()).collect())
    }

    #[test]
    fn path_query_and_body_become_one_message() {
        let parsed = parse(
            Method::PUT,
            "/admin/keys/k1",
            "environment=prod&validate_only=true",
            r#"{"rate_limit": 5, "expires_at": null, "permissions": ["a"]}"#,
        );
        let request: v1::UpdateKeyRequest =
            parsed.expect("a message").transcode_to().expect("the request");
        let key = v1::Key {
            key_id: "k1".into(),
            rate_limit: Some(5),
            permissions: vec!["a".into()],
            ..v1::Key::default()
        };
        assert_eq!(request.key, Some(key));
        let mut paths = request.update_mask.expect("a mask").paths;
        paths.sort();
        assert_eq!(paths, ["expires_at", "permissions", "rate_limit"]);
        assert_eq!((request.environment.as_str(), request.validate_only), ("prod", true));
    }

    #[test]
    fn a_mask_in_the_query_wins() {
        let parsed =
            parse(Method::PUT, "/admin/keys/k1", "update_mask=a,b", r#"{"rate_limit": 5}"#);
        let request: v1::UpdateKeyRequest =
            parsed.expect("a message").transcode_to().expect("the request");
        assert_eq!(request.update_mask.expect("a mask").paths, ["a", "b"]);
    }

    #[test]
    fn queries_hold_every_scalar() {
        let parsed = parse(
            Method::GET,
            "/admin/logs",
            "page_size=5&status_code=404&path_prefix=%2Fa+b&start_time=2026-01-02T03:04:05Z",
            "",
        );
        let request: v1::ListLogsRequest =
            parsed.expect("a message").transcode_to().expect("the request");
        assert_eq!((request.page_size, request.status_code.as_str()), (5, "404"));
        assert_eq!(request.path_prefix, "/a b");
        assert_eq!(request.start_time.map(|time| time.seconds), Some(1_767_323_045));
        let parsed = parse(Method::GET, "/admin/keys", "is_active=false", "");
        let request: v1::ListKeysRequest =
            parsed.expect("a message").transcode_to().expect("the request");
        assert_eq!(request.is_active, Some(false));
    }

    #[test]
    fn an_absent_body_is_an_empty_one() {
        for body in ["", "{}", " \n"] {
            let parsed = parse(Method::POST, "/admin/keys/k1/rotate", "environment=e", body);
            let request: v1::RotateKeyRequest =
                parsed.expect("a message").transcode_to().expect("the request");
            assert_eq!((request.key_id.as_str(), request.overlap), ("k1", None));
            assert_eq!(request.environment, "e");
        }
    }

    #[test]
    fn each_fault_names_what_the_user_wrote() {
        let put = |query, body| parse(Method::PUT, "/admin/keys/k1", query, body);
        let get = |query| parse(Method::GET, "/admin/keys", query, "");
        let rotate = |query, body| parse(Method::POST, "/admin/keys/k1/rotate", query, body);
        for (parsed, field) in [
            (put("", "["), "body"),
            (put("", "[]"), "body"),
            (put("", "\"\u{7}\""), "body"),
            (put("", r#"{"nope": 1}"#), "nope"),
            (put("", r#"{"key_id": "k2"}"#), "key_id"),
            (put("", r#"{"rate_limit": "many"}"#), "rate_limit"),
            (put("key=1", "{}"), "key"),
            (put("key_id=1", "{}"), "key_id"),
            (get("nope=1"), "nope"),
            (get("page_size=many"), "page_size"),
            (get("page_size=1&page_size=2"), "page_size"),
            (get("is_active"), "is_active"),
            (get("page_token=%ff"), "query"),
            (rotate("overlap=5", r#"{"overlap": 6}"#), "overlap"),
            (rotate("key_id=k2", "{}"), "key_id"),
        ] {
            assert_eq!(parsed.expect_err(field), [field]);
        }
    }
}
