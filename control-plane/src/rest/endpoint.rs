//! Which verb and path call which method, read from the annotations.

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

use super::{answer::Refusal, percent};

/// One method of the API as REST sees it.
pub(super) struct Endpoint {
    /// The gRPC path, such as `/fastgate.admin.v1.KeyService/GetKey`.
    pub(super) rpc: String,
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    pub(super) body: BodyField,
    pub(super) verb: Method,
    /// Whether a success means that something new exists.
    pub(super) creates: bool,
    /// Whether the answer is one message after the other.
    pub(super) streams: bool,
    path: Vec<Segment>,
}

/// What of the request message the body holds.
#[derive(Clone)]
pub(super) enum BodyField {
    Nothing,
    Everything,
    One(FieldDescriptor),
}

/// A variable of a path with its value.
pub(super) struct Variable {
    /// From the request message down, such as `key`, `key_id`.
    pub(super) fields: Vec<FieldDescriptor>,
    pub(super) value: String,
}

enum Segment {
    Literal(String),
    Variable(Vec<FieldDescriptor>),
}

/// All of them.
pub(super) struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    pub(super) fn new(pool: &DescriptorPool) -> Result<Self, String> {
        let mut endpoints = Vec::new();
        for service in pool.services() {
            for method in service.methods() {
                let parsed = Endpoint::parse(pool, &method);
                endpoints.extend(parsed.map_err(|fault| {
                    format!("the HTTP annotation of {}: {fault}", method.full_name())
                })?);
            }
        }
        Ok(Self(endpoints))
    }

    /// The endpoint a request is for, with the values of its path.
    pub(super) fn find(
        &self,
        verb: &Method,
        path: &str,
    ) -> Result<(&Endpoint, Vec<Variable>), Refusal> {
        let segments: Vec<_> = path
            .split('/')
            .skip(1)
            .map(percent::decode)
            .collect::<Option<_>>()
            .ok_or(Refusal::NoSuchPath)?;
        let mut allowed = Vec::new();
        // Literals win over variables; no two paths of the API differ in more than that.
        let mut found: Option<(&Endpoint, Vec<Variable>)> = None;
        for endpoint in &self.0 {
            let Some(variables) = endpoint.matches(&segments) else { continue };
            if endpoint.verb != verb {
                allowed.push(endpoint.verb.clone());
            } else if found.as_ref().is_none_or(|(_, others)| variables.len() < others.len()) {
                found = Some((endpoint, variables));
            }
        }
        match found {
            Some(found) => Ok(found),
            None if allowed.is_empty() => Err(Refusal::NoSuchPath),
            None => Err(Refusal::NoSuchVerb { allowed }),
        }
    }
}

impl Endpoint {
    pub(super) fn takes_body(&self) -> bool {
        !matches!(self.body, BodyField::Nothing)
    }

    /// Whether the body is a config document, which may be larger than anything else.
    pub(super) fn takes_config(&self) -> bool {
        matches!(&self.body, BodyField::One(field) if field.name() == "config")
    }

    fn parse(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Option<Self>, String> {
        let Some(annotation) = pool.get_extension_by_name("google.api.http") else {
            return Ok(None);
        };
        let options = method.options();
        if !options.has_extension(&annotation) {
            return Ok(None);
        }
        let rule = options.get_extension(&annotation);
        let rule = rule.as_message().ok_or("is no message")?;
        let verbs = [
            ("get", Method::GET),
            ("put", Method::PUT),
            ("post", Method::POST),
            ("delete", Method::DELETE),
            ("patch", Method::PATCH),
        ];
        let (verb, template) = verbs
            .into_iter()
            .find_map(|(field, verb)| Some((verb, text(rule, field)?)))
            .ok_or("names no path")?;
        let input = method.input();
        let body = match text(rule, "body").as_deref() {
            None => BodyField::Nothing,
            Some("*") => BodyField::Everything,
            Some(name) => BodyField::One(field(&input, name)?),
        };
        let segments = template.split('/').skip(1).map(|segment| Segment::parse(&input, segment));
        let path = segments.collect::<Result<_, _>>()?;
        let service = method.parent_service().full_name();
        Ok(Some(Self {
            rpc: format!("/{service}/{}", method.name()),
            output: method.output(),
            creates: verb == Method::POST && method.name().starts_with("Create"),
            input,
            streams: method.is_server_streaming(),
            body,
            verb,
            path,
        }))
    }

    fn matches(&self, segments: &[String]) -> Option<Vec<Variable>> {
        if self.path.len() != segments.len() {
            return None;
        }
        let mut variables = Vec::new();
        for (own, sent) in self.path.iter().zip(segments) {
            match own {
                Segment::Literal(text) if text == sent => {}
                Segment::Variable(fields) if !sent.is_empty() => {
                    variables.push(Variable { fields: fields.clone(), value: sent.clone() });
                }
                Segment::Literal(_) | Segment::Variable(_) => return None,
            }
        }
        Some(variables)
    }
}

impl Segment {
    fn parse(input: &MessageDescriptor, text: &str) -> Result<Self, String> {
        let Some(variable) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            return Ok(Self::Literal(text.to_owned()));
        };
        let mut message = Some(input.clone());
        let mut fields = Vec::new();
        for name in variable.split('.') {
            let within = message.ok_or_else(|| format!("'{variable}' goes below a scalar"))?;
            let field = field(&within, name)?;
            message = match field.kind() {
                Kind::Message(inner) => Some(inner),
                _ => None,
            };
            fields.push(field);
        }
        Ok(Self::Variable(fields))
    }
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name);
    found.ok_or_else(|| format!("{} has no field '{name}'", message.full_name()))
}

/// A text field of the annotation, unless it is empty.
fn text(rule: &DynamicMessage, field: &str) -> Option<String> {
    let value = rule.get_field_by_name(field)?;
    value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Endpoints {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        Endpoints::new(&pool).expect("right annotations")
    }

    #[test]
    fn paths_lead_to_methods() {
        let endpoints = endpoints();
        for (verb, path, rpc, values) in [
            (Method::POST, "/admin/keys", "KeyService/CreateKey", &[][..]),
            (Method::GET, "/admin/keys", "KeyService/ListKeys", &[]),
            (Method::GET, "/admin/keys/k1", "KeyService/GetKey", &["k1"]),
            (Method::PUT, "/admin/keys/k1", "KeyService/UpdateKey", &["k1"]),
            (Method::DELETE, "/admin/keys/k%31", "KeyService/DeleteKey", &["k1"]),
            (Method::POST, "/admin/keys/k1/rotate", "KeyService/RotateKey", &["k1"]),
            (Method::GET, "/admin/logs", "LogService/ListLogs", &[]),
            (Method::POST, "/admin/config/apply", "ConfigService/ApplyConfig", &[]),
            (Method::GET, "/admin/keys/a%2Fb", "KeyService/GetKey", &["a/b"]),
        ] {
            let (endpoint, variables) =
                endpoints.find(&verb, path).unwrap_or_else(|_| panic!("{verb} {path}"));
            assert_eq!(endpoint.rpc, format!("/fastgate.admin.v1.{rpc}"), "{verb} {path}");
            let found: Vec<_> = variables.iter().map(|variable| &*variable.value).collect();
            assert_eq!(found, values, "{verb} {path}");
        }
    }

    #[test]
    fn every_admin_method_has_a_path() {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let admin = pool.services().filter(|s| s.package_name() == "fastgate.admin.v1");
        let methods: usize = admin.map(|service| service.methods().len()).sum();
        assert_eq!(endpoints().0.len(), methods);
    }

    #[test]
    fn unknown_paths_and_verbs_are_told_apart() {
        let endpoints = endpoints();
        for path in ["/", "/admin", "/admin/keys/", "/admin//keys", "/admin/keys/a/b", "/x/%zz"] {
            let refusal = endpoints.find(&Method::GET, path).err();
            assert!(matches!(refusal, Some(Refusal::NoSuchPath)), "{path}");
        }
        match endpoints.find(&Method::PATCH, "/admin/keys/k1").err() {
            Some(Refusal::NoSuchVerb { allowed }) => {
                assert_eq!(allowed, [Method::GET, Method::PUT, Method::DELETE]);
            }
            _ => panic!("not refused for its verb"),
        }
    }
}
