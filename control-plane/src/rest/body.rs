//! The body of a request: JSON within bounds, no member twice.

use std::{fmt, time::Duration};

use bytes::Bytes;
use fastgate::model::Violations;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::{answer::Refusal, endpoint::Endpoint};
use crate::{
    admin::{MAX_CONFIG, MAX_MESSAGE},
    gate::DEADLINE,
};

/// Bytes read of a body that is not taken, and how long that may take.
const DISCARDED: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Reads the body of a request to a method that takes one.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    endpoint: &Endpoint,
) -> Result<Vec<u8>, Refusal> {
    if !endpoint.takes_body() || body.is_end_stream() {
        return Ok(Vec::new());
    }
    let limit = if endpoint.takes_config() { MAX_CONFIG } else { MAX_MESSAGE };
    let at_once = if !is_json(headers) {
        Some(Refusal::OtherKind)
    } else if body.size_hint().lower() > limit as u64 {
        Some(Refusal::TooLarge { limit })
    } else {
        None
    };
    if let Some(refusal) = at_once {
        // A client that waits to be asked for the body has sent none.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body).await;
        }
        return Err(refusal);
    }
    match tokio::time::timeout(DEADLINE, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(Refusal::TooLarge { limit })
        }
        Ok(Err(_)) => Err(Refusal::BrokenBody),
        Err(_) => Err(Refusal::SlowBody),
    }
}

/// Reads JSON; a member that is given twice is a fault.
pub(super) fn parse(body: &[u8], faults: &mut Violations) -> serde_json::Result<Json> {
    let mut text = serde_json::Deserializer::from_slice(body);
    let json = Node { at: Place::Top, faults }.deserialize(&mut text)?;
    text.end()?;
    Ok(json)
}

/// Whether the body says that it is JSON, or does not say what it is. `curl -d` calls everything a
/// form, and means nothing by it.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    matches!(kind, "application/json" | "application/x-www-form-urlencoded")
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads what is on its way, within bounds: most clients look for an answer only when they have
/// sent all, and a connection closed before that would look like a fault to them.
async fn discard(body: &mut Incoming) {
    let reading = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended or took too long, the answer is the same.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// A value about to be read. `serde_json` alone would take the last of two members with one name.
struct Node<'a> {
    at: Place<'a>,
    faults: &'a mut Violations,
}

/// Where a value stands, such as `targets[0].url`.
#[derive(Clone, Copy)]
enum Place<'a> {
    Top,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Member(Self::Top, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Json, D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let Self { at, faults } = self;
        let mut read = Vec::new();
        loop {
            let item = Node { at: Place::Item(&at, read.len()), faults: &mut *faults };
            match items.next_element_seed(item)? {
                Some(item) => read.push(item),
                None => return Ok(Json::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let Self { at, faults } = self;
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let at = Place::Member(&at, &name);
            let value = members.next_value_seed(Node { at, faults: &mut *faults })?;
            if read.contains_key(&name) {
                faults.add(at.to_string(), "is given twice: keep one");
            }
            read.insert(name, value);
        }
        Ok(Json::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is_written() {
        let text = r#"{"a": [1, -1, 1.5, true, null, "b\u00e9"], "c": {"d": {}}, "n": 18446744073709551615}"#;
        let mut faults = Violations::default();
        let read = parse(text.as_bytes(), &mut faults).expect("json");
        assert_eq!(read, serde_json::from_str::<Json>(text).expect("json"));
        assert!(faults.is_empty(), "{faults}");
        for bad in ["{} {}", "[1,]", "{\"a\"}", "nul", "\u{feff}{}", &"[".repeat(1000)] {
            assert!(parse(bad.as_bytes(), &mut faults).is_err(), "{bad}");
        }
    }

    #[test]
    fn members_given_twice_are_named_with_their_places() {
        let text =
            r#"{"a": 1, "b": [{}, {"c": 1, "d": {"e": 1, "e": 1}, "\u0063": 2}], "a": null}"#;
        let mut faults = Violations::default();
        parse(text.as_bytes(), &mut faults).expect("json");
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["b[1].d.e", "b[1].c", "a"]);
    }
}
