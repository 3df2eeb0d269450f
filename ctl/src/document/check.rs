//! Whether a document has the shape of a config: known fields, lists where lists belong.
//!
//! All faults of a document are found at once. Single values are left to the reader of messages.

use fastgate::model::numbers_of;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_saphyr::Spanned;

use super::{
    source::Source,
    tree::{Node, Placed},
};
use crate::{
    error::Fault,
    schema::{TIMESTAMP, is_output_only},
};

/// Faults told of one document; what is behind them is mended later.
const MAX_FAULTS: usize = 20;

/// Checks a whole document.
pub(super) fn check(
    source: &Source,
    tree: &Node,
    description: &MessageDescriptor,
) -> Result<(), Vec<Fault>> {
    let mut check = Check { source, faults: Vec::new() };
    match tree {
        Node::Map(_) => check.message(tree, description, "", 1),
        Node::Scalar { is_null: true } => {
            check.fault(None, "is empty: give 'routes', 'upstreams' or 'plans'".into());
        }
        Node::List(_) | Node::Scalar { .. } => {
            check.fault(Some(1), "must begin with 'routes:', 'upstreams:' or 'plans:'".into());
        }
    }
    if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
}

/// What a single value at a path must be.
pub(super) fn expected(description: &MessageDescriptor, path: &str) -> Option<&'static str> {
    let mut message = description.clone();
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let name = step.split('[').next().unwrap_or(step);
        let kind = message.get_field_by_name(name)?.kind();
        if steps.peek().is_none() {
            return value(&kind, name);
        }
        message = kind.as_message()?.clone();
    }
    None
}

struct Check<'a> {
    source: &'a Source,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn message(&mut self, node: &Node, description: &MessageDescriptor, path: &str, line: u64) {
        let Node::Map(fields) = node else {
            return self.fault(Some(line), format!("{path} must be a mapping of fields"));
        };
        for (key, value) in fields {
            let line = key.referenced.line();
            match description.get_field_by_name(&key.value) {
                Some(field) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.field(value, &field, &format!("{path}{dot}{}", key.value), line);
                }
                None => self.unknown(&key.value, description, path, line),
            }
        }
    }

    fn field(&mut self, value: &Placed, field: &FieldDescriptor, path: &str, line: u64) {
        match &value.value {
            Node::Scalar { is_null: true } => {}
            Node::List(items) if field.is_list() => {
                for (at, item) in items.iter().enumerate() {
                    self.one(item, &field.kind(), &format!("{path}[{at}]"), item.referenced.line());
                }
            }
            Node::Map(pairs) if field.is_map() => self.pairs(pairs, path),
            _ if field.is_map() => self.fault(Some(line), format!("{path} must be a mapping")),
            _ if field.is_list() => self.fault(Some(line), format!("{path} must be a list")),
            _ => self.one(value, &field.kind(), path, line),
        }
    }

    /// A mapping of names to texts, such as labels.
    fn pairs(&mut self, pairs: &[(Spanned<String>, Placed)], path: &str) {
        for (key, value) in pairs {
            let line = key.referenced.line();
            if !matches!(value.value, Node::Scalar { is_null: false }) {
                self.fault(Some(line), format!("{path}.{} must be a text", key.value));
            }
        }
    }

    fn one(&mut self, node: &Placed, kind: &Kind, path: &str, line: u64) {
        match (kind, &node.value) {
            (_, Node::Scalar { is_null: true }) => {
                self.fault(Some(line), format!("{path} is empty"))
            }
            (Kind::Message(below), node) if !is_single(below) => {
                self.message(node, below, path, line);
            }
            (_, Node::Scalar { .. }) => {}
            (kind, _) => {
                let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
                let expected = value(kind, name).unwrap_or("a single value");
                self.fault(Some(line), format!("{path} must be {expected}"));
            }
        }
    }

    fn unknown(&mut self, name: &str, description: &MessageDescriptor, path: &str, line: u64) {
        let place = if path.is_empty() { "the document" } else { path };
        let by_people = |field: &FieldDescriptor| !is_output_only(field);
        let fields: Vec<_> = description.fields().filter(by_people).collect();
        let names: Vec<_> = fields.iter().map(FieldDescriptor::name).collect();
        let near = similar::get_close_matches(name, &names, 1, 0.6);
        let mend = match near.first() {
            Some(near) => format!(", did you mean '{near}'?"),
            None => format!(", known are {}", names.join(", ")),
        };
        self.fault(Some(line), format!("unknown field '{name}' in {place}{mend}"));
    }

    fn fault(&mut self, line: Option<u64>, message: String) {
        // A document of nothing but faults must not fill the memory with them.
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(self.source.fault(line, message));
        }
    }
}

fn is_single(message: &MessageDescriptor) -> bool {
    message.full_name() == TIMESTAMP
}

fn value(kind: &Kind, field: &str) -> Option<&'static str> {
    match kind {
        Kind::Double | Kind::Float => Some("a number"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Some("a whole number of at most 32 bits"),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Some(numbers_of(field)),
        Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => {
            Some("a whole number, 0 or more")
        }
        Kind::Bool => Some("true or false"),
        Kind::String => Some("a text"),
        Kind::Message(message) if is_single(message) => Some("a time such as 2026-11-23T07:00:00Z"),
        Kind::Message(_) | Kind::Enum(_) | Kind::Bytes => None,
    }
}
