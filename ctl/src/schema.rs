//! What the API's messages look like, by name: JSON and YAML are read and written from this.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _};
use prost_reflect::{FieldDescriptor, SerializeOptions};
use serde::{Serialize, Serializer};

use crate::error::Error;

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
pub(crate) struct Written<'a> {
    message: &'a DynamicMessage,
    options: SerializeOptions,
}

impl<'a> Written<'a> {
    /// Every field, as REST answers.
    pub(crate) fn whole(message: &'a DynamicMessage) -> Self {
        Self { message, options: OPTIONS.skip_default_fields(false) }
    }

    /// The fields that are set, as documents are written.
    pub(crate) fn set_fields(message: &'a DynamicMessage) -> Self {
        Self { message, options: OPTIONS.skip_default_fields(true) }
    }

    /// As YAML.
    pub(crate) fn to_yaml(&self) -> Result<String, Error> {
        serde_saphyr::to_string(self).map_err(|fault| Error::Show(fault.to_string()))
    }

    /// As JSON on several lines.
    pub(crate) fn to_json(&self) -> Result<String, Error> {
        let mut text =
            serde_json::to_string_pretty(self).map_err(|fault| Error::Show(fault.to_string()))?;
        text.push('\n');
        Ok(text)
    }
}

const OPTIONS: SerializeOptions =
    SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.message.serialize_with_options(serializer, &self.options)
    }
}

/// Takes away what the control plane sets and no document needs.
pub(crate) fn strip_output_fields(object: &mut DynamicMessage) {
    let output_only =
        |field: &FieldDescriptor| matches!(field.name(), "created_at" | "updated_at" | "etag");
    let fields: Vec<_> = object.descriptor().fields().filter(output_only).collect();
    for field in fields {
        object.clear_field(&field);
    }
}
