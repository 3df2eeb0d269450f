//! What is recorded of the requests of a route.

use super::{JsonPath, MediaRange, Violations, bounds};
use crate::admin::v1;

/// What is recorded of a request beside what always is, and of how many.
#[derive(Clone, PartialEq, Debug)]
pub struct Recording {
    /// Of the request.
    pub request_headers: Vec<RecordedName>,
    /// Of the answer.
    pub response_headers: Vec<RecordedName>,
    /// Of the requests answered with 2xx, how many.
    pub success_sample: Share,
    /// Bytes of the request's body; 0: nothing.
    pub request_body_bytes: usize,
    /// Bytes of the answer's body; 0: nothing.
    pub response_body_bytes: usize,
    /// What bodies are recorded; never empty.
    pub body_types: Vec<MediaRange>,
    /// What is taken out of them.
    pub redact: Vec<JsonPath>,
}

/// A header whose value is recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedName {
    /// In lower case.
    pub name: Box<str>,
    /// Whether its values are secrets, which are never recorded.
    pub is_secret: bool,
}

/// A part of all requests, chosen by chance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share(f64);

/// Headers whose values open something.
const SECRETS: [&str; 22] = [
    "api-key",
    "apikey",
    "authentication-info",
    "authorization",
    "cookie",
    "ocp-apim-subscription-key",
    "private-token",
    "proxy-authorization",
    "set-cookie",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-api-token",
    "x-apikey",
    "x-auth-token",
    "x-client-secret",
    "x-csrf-token",
    "x-gitlab-token",
    "x-goog-api-key",
    "x-session-token",
    "x-vault-token",
    "x-xsrf-token",
];

/// What bodies are recorded where nothing is said.
const BODY_TYPES: [&str; 3] = ["application/json", "application/*+json", "text/*"];

impl Recording {
    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::Recording) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let request_headers = names("request_headers", &wire.request_headers, &mut faults);
        let response_headers = names("response_headers", &wire.response_headers, &mut faults);
        let success_sample =
            faults.take("success_sample", Share::parse(wire.success_sample), Share::ALL);
        let mut size = |field, bytes| faults.take(field, parse_size(bytes), 0);
        let request_body_bytes = size("request_body_bytes", wire.request_body_bytes);
        let response_body_bytes = size("response_body_bytes", wire.response_body_bytes);
        let body_types = match &wire.body_types[..] {
            [] => BODY_TYPES.iter().filter_map(|text| MediaRange::parse(text).ok()).collect(),
            given => each("body_types", given, bounds::BODY_TYPES, MediaRange::parse, &mut faults),
        };
        let redact = each("redact", &wire.redact, bounds::REDACTED, JsonPath::parse, &mut faults);
        if wire.request_body_bytes == 0 && wire.response_body_bytes == 0 {
            for (field, given) in [("body_types", &wire.body_types), ("redact", &wire.redact)] {
                if !given.is_empty() {
                    faults.add(
                        field,
                        "is given, but no body is recorded: set 'request_body_bytes' or \
                         'response_body_bytes' above 0, or leave it out",
                    );
                }
            }
        }
        faults.or(Self {
            request_headers,
            response_headers,
            success_sample,
            request_body_bytes,
            response_body_bytes,
            body_types,
            redact,
        })
    }
}

impl RecordedName {
    fn parse(text: &str) -> Result<Self, String> {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("is '{text}', which is no name of a header, such as x-tenant"))?;
        // As upstreams that know no hyphens read it.
        let is_secret = SECRETS.contains(&name.as_str().replace('_', "-").as_str());
        Ok(Self { name: name.as_str().into(), is_secret })
    }
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1.0);

    fn parse(wire: Option<f64>) -> Result<Self, String> {
        match wire {
            None => Ok(Self::ALL),
            Some(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            Some(share) => Err(format!("is {share}: give a share from 0 to 1, such as 0.1")),
        }
    }

    /// Whether a request is one of them; `random` is any number, each as likely as another.
    #[must_use]
    pub fn holds(self, random: u64) -> bool {
        // As many bits as a float has: 1 is never reached.
        const BITS: u32 = f64::MANTISSA_DIGITS;
        let below_one = (random >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
        below_one < self.0
    }
}

fn names(field: &str, wire: &[String], faults: &mut Violations) -> Vec<RecordedName> {
    let names = each(field, wire, bounds::RECORDED_HEADERS, RecordedName::parse, faults);
    for (at, name) in names.iter().enumerate() {
        if names.iter().take(at).any(|other| other.name == name.name) {
            faults.add(field, format!("repeat {}", name.name));
        }
    }
    names
}

fn parse_size(bytes: i32) -> Result<usize, String> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= bounds::RECORDED_BODY)
        .ok_or_else(|| format!("is {bytes}: give 0 to {}", bounds::RECORDED_BODY))
}

/// Reads a list with so many items at most.
fn each<T>(
    field: &str,
    wire: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
    faults: &mut Violations,
) -> Vec<T> {
    if wire.len() > most {
        faults.add(field, format!("are {}: give at most {most}", wire.len()));
        return Vec::new();
    }
    let mut items = Vec::with_capacity(wire.len());
    for (at, text) in wire.iter().enumerate() {
        match parse(text) {
            Ok(item) => items.push(item),
            Err(description) => faults.add(format!("{field}[{at}]"), description),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(wire: &v1::Recording) -> Vec<String> {
        let faults = Recording::parse(wire).err().unwrap_or_default();
        faults.iter().map(|fault| fault.field.clone()).collect()
    }

    #[test]
    fn each_fault_names_its_field() {
        type Spoil = fn(&mut v1::Recording);
        let cases: [(&str, Spoil); 17] = [
            ("request_headers[0]", |r| r.request_headers = vec!["a b".into()]),
            ("request_headers[1]", |r| r.request_headers = vec!["a".into(), String::new()]),
            ("request_headers", |r| r.request_headers = vec!["a".into(), "A".into()]),
            ("request_headers", |r| {
                r.request_headers = (0..33).map(|n| format!("x-{n}")).collect()
            }),
            ("response_headers[0]", |r| r.response_headers = vec!["a:".into()]),
            ("success_sample", |r| r.success_sample = Some(1.5)),
            ("success_sample", |r| r.success_sample = Some(-0.1)),
            ("success_sample", |r| r.success_sample = Some(f64::NAN)),
            ("request_body_bytes", |r| r.request_body_bytes = -1),
            ("request_body_bytes", |r| r.request_body_bytes = 65_537),
            ("response_body_bytes", |r| r.response_body_bytes = i32::MAX),
            ("body_types[0]", |r| r.body_types = vec!["json".into()]),
            ("body_types", |r| r.body_types = vec!["text/*".into(); 17]),
            ("redact[1]", |r| r.redact = vec!["$.a".into(), "a".into()]),
            ("redact", |r| r.redact = vec!["$.a".into(); 33]),
            ("redact", |r| (r.request_body_bytes, r.redact) = (0, vec!["$.a".into()])),
            ("body_types", |r| (r.request_body_bytes, r.body_types) = (0, vec!["a/b".into()])),
        ];
        for (field, spoil) in cases {
            let mut wire = v1::Recording { request_body_bytes: 1, ..v1::Recording::default() };
            spoil(&mut wire);
            assert_eq!(faults(&wire), [field], "{wire:?}");
        }
        assert_eq!(faults(&v1::Recording::default()), [""; 0]);
    }

    #[test]
    fn names_of_secrets_are_known_in_any_form() {
        for (name, is_secret) in [
            ("Authorization", true),
            ("PROXY-authorization", true),
            ("Cookie", true),
            ("Set-Cookie", true),
            ("X-API-Key", true),
            ("x_api_key", true),
            ("x-tenant", false),
            ("content-type", false),
        ] {
            let parsed = RecordedName::parse(name).expect("a name");
            assert_eq!(parsed.is_secret, is_secret, "{name}");
            assert_eq!(*parsed.name, *name.to_ascii_lowercase());
        }
        assert!(SECRETS.is_sorted());
    }

    #[test]
    fn a_share_holds_as_many_as_it_says() {
        for (share, held) in [(0.0, 0), (0.25, 256), (0.5, 512), (1.0, 1024)] {
            let share = Share::parse(Some(share)).expect("a share");
            let count = (0..1024_u64).filter(|n| share.holds(n << 54)).count();
            assert_eq!(count, held, "{share:?}");
        }
        assert!(Share::ALL.holds(u64::MAX));
        assert!(!Share(0.0).holds(0));
    }
}
