//! A document as it was written: every value with the line it stands on.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and where it stands.
pub(super) type Placed = Spanned<Node>;

/// A value of a document, as far as its place matters.
#[derive(Debug)]
pub(super) enum Node {
    /// Fields in the order they were written.
    Map(Vec<(Spanned<String>, Placed)>),
    /// A list.
    List(Vec<Placed>),
    /// A text, number, truth value or nothing at all.
    Scalar {
        /// Whether it is nothing at all.
        is_null: bool,
    },
}

impl Node {
    /// Which line a path such as `routes[1].targets[0].url` stands on: that of the deepest part
    /// of it that was written.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        let mut node = self;
        let mut line = None;
        for step in steps(path) {
            let found = match (node, step) {
                (Self::Map(fields), Step::Field(name)) => fields
                    .iter()
                    .find(|(key, _)| key.value == name)
                    .map(|(key, value)| (key.referenced.line(), value)),
                (Self::List(items), Step::Index(at)) => {
                    items.get(at).map(|item| (item.referenced.line(), item))
                }
                _ => None,
            };
            let Some((found_line, value)) = found else {
                break;
            };
            line = Some(found_line);
            node = &value.value;
        }
        line
    }

    /// The path of the last field that begins on or before a line and column: what a fault found
    /// there is about.
    pub(super) fn path_at(&self, line: u64, column: u64) -> String {
        let mut best = ((0, 0), String::new());
        self.walk(String::new(), &mut |path, at| {
            if at <= (line, column) && at >= best.0 {
                best = (at, path.to_owned());
            }
        });
        best.1
    }

    /// The item of a list, such as a route, that a path leads into.
    pub(super) fn item(&self, list: &str, index: usize) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        let (_, list) = fields.iter().find(|(key, _)| key.value == list)?;
        let Self::List(items) = &list.value else { return None };
        items.get(index).map(|item| &item.value)
    }

    fn walk(&self, path: String, see: &mut impl FnMut(&str, (u64, u64))) {
        match self {
            Self::Map(fields) => {
                for (key, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    let below = format!("{path}{dot}{}", key.value);
                    see(&below, (key.referenced.line(), key.referenced.column()));
                    value.value.walk(below, see);
                }
            }
            Self::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let below = format!("{path}[{at}]");
                    see(&below, (item.referenced.line(), item.referenced.column()));
                    item.value.walk(below, see);
                }
            }
            Self::Scalar { .. } => {}
        }
    }
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).map(|part| {
        let index = part.strip_suffix(']').and_then(|index| index.parse().ok());
        index.map_or(Step::Field(part), Step::Index)
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

const SCALAR: Node = Node::Scalar { is_null: false };

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(Node::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar { is_null: true })
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar { is_null: true })
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Node, E> {
        Ok(SCALAR)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Node, E> {
        Ok(SCALAR)
    }
}
