//! Between JSON and messages: snake_case names, 64-bit numbers as numbers, and every fault with
//! the path of its field.

use std::collections::HashMap;

use fastgate::{
    model::{Violations, numbers_of},
    time::{self, Written},
};
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};
use prost_types::{FieldMask, Timestamp};
use serde::ser::{Error as _, Serialize, SerializeMap as _, Serializer};
use serde_json::Value as Json;

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const FIELD_MASK: &str = "google.protobuf.FieldMask";
/// Secrets and their hashes: left out wherever they are not shown.
const RARELY_SHOWN: [&str; 3] = ["key_value", "token_value", "hash"];

/// Whether a message is written as text in JSON.
pub(super) fn is_text(kind: &MessageDescriptor) -> bool {
    [TIMESTAMP, FIELD_MASK].contains(&kind.full_name())
}

/// Reads a message. `at` is where it stands, empty at the top.
pub fn message(
    kind: &MessageDescriptor,
    json: &Json,
    at: &str,
    faults: &mut Violations,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    let Json::Object(object) = json else {
        faults.add(at, "must be an object");
        return message;
    };
    for (name, json) in object {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let Some(field) = kind.get_field_by_name(name) else {
            let known: Vec<_> = kind.fields().map(|field| field.name().to_owned()).collect();
            faults.add(at, format!("is no field: use one of {}", known.join(", ")));
            continue;
        };
        // null says the same as leaving the field out.
        if json.is_null() {
            continue;
        }
        if let Some(value) = field_value(&field, json, &at, faults) {
            message.set_field(&field, value);
        }
    }
    message
}

fn field_value(
    field: &FieldDescriptor,
    json: &Json,
    at: &str,
    faults: &mut Violations,
) -> Option<Value> {
    let kind = field.kind();
    if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
        return pairs(entry, json, at, faults);
    }
    if !field.is_list() {
        return scalar(&kind, json, at, faults);
    }
    let Json::Array(items) = json else {
        faults.add(at, "must be a list");
        return None;
    };
    let items = items.iter().enumerate();
    let values = items.filter_map(|(n, item)| scalar(&kind, item, &format!("{at}[{n}]"), faults));
    Some(Value::List(values.collect()))
}

/// Reads an object of values by name, such as labels.
fn pairs(
    entry: &MessageDescriptor,
    json: &Json,
    at: &str,
    faults: &mut Violations,
) -> Option<Value> {
    let Json::Object(object) = json else {
        faults.add(at, "must be an object");
        return None;
    };
    let kind = entry.map_entry_value_field().kind();
    let pairs = object.iter().filter_map(|(name, json)| {
        let value = scalar(&kind, json, &format!("{at}.{name}"), faults)?;
        Some((MapKey::String(name.clone()), value))
    });
    Some(Value::Map(pairs.collect()))
}

/// Reads one value that is no list.
pub(super) fn scalar(kind: &Kind, json: &Json, at: &str, faults: &mut Violations) -> Option<Value> {
    let (value, expected) = match kind {
        Kind::Bool => (json.as_bool().map(Value::Bool), "true or false"),
        Kind::String => (json.as_str().map(|text| Value::String(text.into())), "text"),
        Kind::Double | Kind::Float => (json.as_f64().map(Value::F64), "a number"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (
            whole(json).and_then(|n| n.try_into().ok()).map(Value::I32),
            "a whole number of at most 32 bits",
        ),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            let field = at.rsplit_once('.').map_or(at, |(_, field)| field);
            let value = whole(json).and_then(|n| n.try_into().ok()).map(Value::I64);
            (value, numbers_of(field))
        }
        Kind::Uint32 | Kind::Fixed32 => {
            let value = whole(json).and_then(|n| n.try_into().ok());
            (value.map(Value::U32), "a whole number from 0 up")
        }
        Kind::Uint64 | Kind::Fixed64 => {
            let value = whole(json).and_then(|n| n.try_into().ok());
            (value.map(Value::U64), "a whole number from 0 up")
        }
        Kind::Enum(kind) => (enum_number(kind, json).map(Value::EnumNumber), "a name of its kind"),
        Kind::Message(kind) => match kind.full_name() {
            TIMESTAMP => (timestamp(kind, json), "a time such as 2030-01-31T12:00:00Z"),
            FIELD_MASK => (field_mask(kind, json), "field names with commas between"),
            _ => return Some(Value::Message(message(kind, json, at, faults))),
        },
        Kind::Bytes => (None, "absent: it has no form in JSON"),
    };
    if value.is_none() {
        faults.add(at, format!("must be {expected}"));
    }
    value
}

/// A number without a fraction, whatever its notation.
fn whole(json: &Json) -> Option<i128> {
    let number = json.as_number()?;
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let float = number.as_f64()?;
    // Beyond 2^53 a float may not be the number that was written.
    let is_whole = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "it was just found to fit")]
    is_whole.then_some(float as i128)
}

fn enum_number(kind: &EnumDescriptor, json: &Json) -> Option<i32> {
    kind.get_value_by_name(json.as_str()?).map(|value| value.number())
}

fn timestamp(kind: &MessageDescriptor, json: &Json) -> Option<Value> {
    from_message(kind, &time::parse(json.as_str()?)?)
}

fn field_mask(kind: &MessageDescriptor, json: &Json) -> Option<Value> {
    let paths = json.as_str()?.split(',').filter(|path| !path.is_empty());
    from_message(kind, &FieldMask { paths: paths.map(ToOwned::to_owned).collect() })
}

fn from_message(kind: &MessageDescriptor, message: &impl prost::Message) -> Option<Value> {
    let mut value = DynamicMessage::new(kind.clone());
    value.transcode_from(message).ok()?;
    Some(Value::Message(value))
}

/// A message as users read it: all fields in the order of the API, absent ones as null or their
/// default, but for the branches of a choice that were not taken.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a DynamicMessage);

/// One value of it.
struct ShownValue<'a> {
    kind: &'a Kind,
    value: &'a Value,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            TIMESTAMP => return show_timestamp(message, serializer),
            FIELD_MASK => return show_field_mask(message, serializer),
            _ => {}
        }
        let mut map = serializer.serialize_map(None)?;
        for field in descriptor.fields() {
            let is_set = message.has_field(&field);
            let is_choice = field.containing_oneof().is_some_and(|choice| !choice.is_synthetic());
            if !is_set && (is_choice || RARELY_SHOWN.contains(&field.name())) {
                continue;
            }
            if !is_set && field.supports_presence() {
                map.serialize_entry(field.name(), &())?;
                continue;
            }
            let value = message.get_field(&field);
            map.serialize_entry(field.name(), &ShownValue { kind: &field.kind(), value: &value })?;
        }
        map.end()
    }
}

impl Serialize for ShownValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::EnumNumber(number) => match self.kind {
                Kind::Enum(kind) => match kind.get_value(*number) {
                    Some(value) => serializer.serialize_str(value.name()),
                    None => serializer.serialize_i32(*number),
                },
                _ => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Shown(message).serialize(serializer),
            Value::List(values) => {
                serializer.collect_seq(values.iter().map(|value| Self { value, kind: self.kind }))
            }
            Value::Map(pairs) => {
                let Kind::Message(entry) = self.kind else {
                    return Err(S::Error::custom("a map without entries"));
                };
                let kind = &entry.map_entry_value_field().kind();
                serializer.collect_map(
                    sorted_pairs(pairs).map(|(name, value)| (name, ShownValue { kind, value })),
                )
            }
            Value::Bytes(_) => Err(S::Error::custom("bytes have no form in this API's JSON")),
        }
    }
}

/// The pairs of a map whose keys are texts, by key.
pub fn sorted_pairs(pairs: &HashMap<MapKey, Value>) -> impl Iterator<Item = (&str, &Value)> {
    let mut pairs: Vec<_> =
        pairs.iter().filter_map(|(key, value)| Some((key.as_str()?, value))).collect();
    pairs.sort_by_key(|(name, _)| *name);
    pairs.into_iter()
}

fn show_timestamp<S: Serializer>(
    message: &DynamicMessage,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let time = Timestamp::decode(message.encode_to_vec().as_slice()).map_err(S::Error::custom)?;
    let time =
        Written::new(&time).ok_or_else(|| S::Error::custom("a time beyond the year 9999"))?;
    serializer.collect_str(&time)
}

fn show_field_mask<S: Serializer>(
    message: &DynamicMessage,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mask = FieldMask::decode(message.encode_to_vec().as_slice()).map_err(S::Error::custom)?;
    serializer.serialize_str(&mask.paths.join(","))
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1;
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;

    fn kind(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let name = format!("fastgate.admin.v1.{name}");
        pool.get_message_by_name(&name).expect("a message")
    }

    fn faults(name: &str, json: &Json) -> Vec<String> {
        let mut faults = Violations::default();
        message(&kind(name), json, "", &mut faults);
        faults.iter().map(|fault| fault.field.clone()).collect()
    }

    #[test]
    fn a_route_reads_as_it_is_written() {
        let json = json!({
            "name": "用户服务",
            "path_prefix": "/api",
            "targets": [{"url": "http://a", "weight": 70, "timeout": 30}],
            "timeout": 1.5,
            "retry_count": 3.0,
            "auth_required": false,
            "rate_limit": null,
            "created_at": "1969-12-31T23:59:59.5Z",
        });
        let mut faults = Violations::default();
        let route: v1::Route =
            message(&kind("Route"), &json, "", &mut faults).transcode_to().expect("a route");
        assert!(faults.is_empty(), "{faults}");
        let target = v1::Target { url: "http://a".into(), weight: Some(70), timeout: Some(30.0) };
        let expected = v1::Route {
            name: "用户服务".into(),
            path_prefix: "/api".into(),
            targets: vec![target],
            timeout: Some(1.5),
            retry_count: Some(3),
            auth_required: Some(false),
            created_at: Some(prost_types::Timestamp { seconds: -1, nanos: 500_000_000 }),
            ..v1::Route::default()
        };
        assert_eq!(route, expected);
    }

    #[test]
    fn all_faults_come_with_their_paths() {
        let json = json!({
            "nope": 1,
            "path": 5,
            "methods": "GET",
            "targets": [{"url": "x"}, {"url": 1, "weight": 1.5}, null],
            "timeout": "30",
            "retry_count": 3_000_000_000_u64,
            "auth_required": "yes",
            "created_at": "yesterday",
        });
        let mut found = faults("Route", &json);
        found.sort();
        let expected = [
            "auth_required",
            "created_at",
            "methods",
            "nope",
            "path",
            "retry_count",
            "targets[1].url",
            "targets[1].weight",
            "targets[2]",
            "timeout",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_number_no_field_holds_is_told_which_ones_its_field_takes() {
        let largest = u64::MAX;
        let told = |name: &str, json: &Json| {
            let mut faults = Violations::default();
            message(&kind(name), json, "", &mut faults);
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            told.join("; ")
        };
        assert_eq!(
            told("Key", &json!({"rate_limit": largest})),
            "rate_limit: must be a whole number from 1 to 1000000000"
        );
        assert_eq!(
            told("Environment", &json!({"default_rate_limit": largest})),
            "default_rate_limit: must be a whole number from 0 to 1000000000"
        );
        assert_eq!(
            told("Plan", &json!({"limits": [{"burst": 1}, {"amount": largest}]})),
            "limits[1].amount: must be a whole number from 1 to 1000000000, to 1000000000000 of a \
             day or month"
        );
        assert_eq!(
            told("RolloutPolicy", &json!({"min_requests": largest})),
            "min_requests: must be a whole number of at most 63 bits"
        );
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        for (json, number) in [
            (json!(u64::MAX), Some(i128::from(u64::MAX))),
            (json!(i64::MIN), Some(i128::from(i64::MIN))),
            (json!(3.0), Some(3)),
            (json!(3.5), None),
            (json!(1e300), None),
            (json!("3"), None),
            (json!(true), None),
        ] {
            assert_eq!(whole(&json), number, "{json}");
        }
    }

    #[test]
    fn an_answer_shows_every_field_but_a_secret_that_is_not_there() {
        let key = v1::Key {
            key_id: "k".into(),
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
            is_active: Some(true),
            usage_count: u64::MAX,
            ..v1::Key::default()
        };
        let mut message = DynamicMessage::new(kind("Key"));
        message.transcode_from(&key).expect("a key");
        let shown = serde_json::to_string(&Shown(&message)).expect("json");
        assert_eq!(
            shown,
            "{\"key_id\":\"k\",\"source_path\":\"\",\"permissions\":[],\
             \"created_at\":\"1970-01-01T00:00:00.005Z\",\"expires_at\":null,\
             \"is_active\":true,\"usage_count\":18446744073709551615,\"rate_limit\":null,\
             \"environment\":\"\",\"rate_limit_fallback\":\"\",\"updated_at\":null,\
             \"last_used_at\":null,\"etag\":\"\",\"secrets\":[],\"description\":\"\",\
             \"plan_id\":\"\",\"limits_reset_at\":null}"
        );
    }
}
