//! What the API's messages look like, by name: JSON and YAML are read and written from this.

use std::sync::LazyLock;

use fastgate::escape::{is_unsafe, safe_json};
use fastgate_control_plane::{Shown, sorted_pairs};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value,
};
use serde::{Serialize, Serializer, ser::Error as _};

use crate::error::Error;

/// The one message that is written as a single value.
pub(crate) const TIMESTAMP: &str = "google.protobuf.Timestamp";

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).ok());

/// The description of a message of the admin API, such as `Key`.
pub(crate) fn describe(name: &str) -> Result<MessageDescriptor, Error> {
    let full = format!("fastgate.admin.v1.{name}");
    let pool = POOL.as_ref();
    pool.and_then(|pool| pool.get_message_by_name(&full))
        .ok_or_else(|| Error::Show(format!("{full} is not described in this build")))
}

/// A message in a form whose fields can be walked.
pub(crate) fn open<M: Message>(name: &str, message: &M) -> Result<DynamicMessage, Error> {
    let mut open = DynamicMessage::new(describe(name)?);
    open.transcode_from(message).map_err(|fault| Error::Show(fault.to_string()))?;
    Ok(open)
}

/// A message as it stands in JSON and YAML.
pub(crate) enum Written<'a> {
    /// Every field, as REST answers.
    Whole(&'a DynamicMessage),
    /// The fields that are set, as people write documents: `timeout: 30`, not `30.0`.
    Document(&'a DynamicMessage),
}

impl Written<'_> {
    /// As YAML.
    pub(crate) fn to_yaml(&self) -> Result<String, Error> {
        to_yaml(self)
    }

    /// As JSON on one line.
    pub(crate) fn to_json_line(&self) -> Result<String, Error> {
        let text = serde_json::to_string(self).map_err(|fault| Error::Show(fault.to_string()))?;
        Ok(safe_json(text) + "\n")
    }

    /// As JSON on several lines.
    pub(crate) fn to_json(&self) -> Result<String, Error> {
        to_json(self)
    }
}

/// Anything as JSON on several lines.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Error> {
    let text =
        serde_json::to_string_pretty(value).map_err(|fault| Error::Show(fault.to_string()))?;
    Ok(safe_json(text) + "\n")
}

/// Anything as YAML. What holds a text that no terminal should obey is written as JSON, which is YAML,
/// too (YAML 1.2.2, section 1.3): there it can be escaped wherever it stands.
pub(crate) fn to_yaml(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_saphyr::to_string(value).map_err(|fault| Error::Show(fault.to_string()))?;
    let is_safe = !text.contains(|c| c != '\n' && is_unsafe(c));
    if is_safe { Ok(text) } else { to_json(value) }
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(message) => Shown(message).serialize(serializer),
            Self::Document(message) => serializer.collect_map(
                message.fields().map(|(field, value)| (field.name().to_owned(), Plain(value))),
            ),
        }
    }
}

/// A value of a document.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Message(message) if message.descriptor().full_name() == TIMESTAMP => {
                Shown(message).serialize(serializer)
            }
            Value::Message(message) => Written::Document(message).serialize(serializer),
            Value::List(items) => serializer.collect_seq(items.iter().map(Plain)),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bool(yes) => serializer.serialize_bool(*yes),
            Value::I32(number) => serializer.serialize_i32(*number),
            Value::I64(number) => serializer.serialize_i64(*number),
            Value::U32(number) => serializer.serialize_u32(*number),
            Value::U64(number) => serializer.serialize_u64(*number),
            // The range in which every whole number is a float of its own.
            Value::F64(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                serializer.serialize_i64(*number as i64)
            }
            Value::F64(number) => serializer.serialize_f64(*number),
            Value::F32(number) => serializer.serialize_f32(*number),
            Value::Map(pairs) => serializer
                .collect_map(sorted_pairs(pairs).map(|(name, value)| (name, Plain(value)))),
            Value::Bytes(_) | Value::EnumNumber(_) => {
                Err(S::Error::custom("documents hold no bytes and no enums"))
            }
        }
    }
}

/// Whether the control plane sets a field, and no document needs it.
pub(crate) fn is_output_only(field: &FieldDescriptor) -> bool {
    matches!(field.name(), "created_at" | "updated_at" | "etag")
}

/// Takes away what the control plane sets.
pub(crate) fn strip_output_fields(object: &mut DynamicMessage) {
    let fields: Vec<_> = object.descriptor().fields().filter(is_output_only).collect();
    for field in fields {
        object.clear_field(&field);
    }
}
