//! Config documents: from files in YAML or JSON to one message for the control plane.
//!
//! A document is read twice. As a [`tree::Node`] it keeps the line of every value, so that each
//! fault, found here or by the control plane, is told with file, line and field. As a message it
//! gets its types from the API's own description, so that no field is listed here. What makes a
//! route valid is not asked here: the control plane does.

mod check;
mod source;
mod tree;

use fastgate::admin::v1::Config;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::{
    error::{Error, Fault, Faults},
    schema,
};

pub(crate) use source::{Source, read};

/// The documents of one command, as one.
#[derive(Debug)]
pub(crate) struct Document {
    /// What to send.
    pub(crate) config: Config,
    parts: Vec<Part>,
}

/// One file of it.
#[derive(Debug)]
struct Part {
    name: String,
    tree: tree::Node,
    /// Where its routes, upstreams and plans begin in the whole.
    routes_from: usize,
    upstreams_from: usize,
    plans_from: usize,
}

impl Document {
    /// Reads documents. All must name the same environment, or none.
    pub(crate) fn parse(sources: &[Source]) -> Result<Self, Error> {
        let description = schema::describe("Config")?;
        let mut whole = Self { config: Config::default(), parts: Vec::new() };
        let mut faults = Vec::new();
        for source in sources {
            match parse_one(source, &description) {
                Ok((config, tree)) => {
                    if let Err(fault) = whole.add(source, config, tree) {
                        faults.push(fault);
                    }
                }
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(whole) } else { Err(Faults(faults).into()) }
    }

    /// Says a field of the whole, such as `routes[3].timeout`, as file, line and field.
    pub(crate) fn place(&self, field: &str) -> String {
        let path = field.strip_prefix("config.").unwrap_or(field);
        let lists = ["routes", "upstreams", "plans"];
        let placed = lists.iter().find_map(|list| self.place_item(path, list));
        placed.unwrap_or_else(|| path.to_owned())
    }

    fn place_item(&self, path: &str, list: &str) -> Option<String> {
        let (index, rest) = path.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let from = |part: &Part| match list {
            "routes" => part.routes_from,
            "upstreams" => part.upstreams_from,
            _ => part.plans_from,
        };
        let part = self.parts.iter().rev().find(|part| {
            index.checked_sub(from(part)).is_some_and(|own| part.tree.item(list, own).is_some())
        })?;
        let own = format!("{list}[{}]{rest}", index - from(part));
        let line = part.tree.line_of(&own);
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        Some(format!("{}{line}: {own}", part.name))
    }

    fn add(&mut self, source: &Source, config: Config, tree: tree::Node) -> Result<(), Fault> {
        let known = &mut self.config.environment;
        if self.parts.is_empty() {
            *known = config.environment;
        } else if *known != config.environment {
            let named = |environment: &str| match environment {
                "" => "not named".to_owned(),
                name => format!("'{name}'"),
            };
            let message = format!(
                "environment is {} here and {} in {}: name the same in all, or apply them apart",
                named(&config.environment),
                named(known),
                self.parts.first().map_or("", |part| &part.name),
            );
            return Err(source.fault(tree.line_of("environment"), message));
        }
        self.parts.push(Part {
            name: source.name.clone(),
            tree,
            routes_from: self.config.routes.len(),
            upstreams_from: self.config.upstreams.len(),
            plans_from: self.config.plans.len(),
        });
        self.config.routes.extend(config.routes);
        self.config.upstreams.extend(config.upstreams);
        self.config.plans.extend(config.plans);
        Ok(())
    }
}

fn parse_one(
    source: &Source,
    description: &MessageDescriptor,
) -> Result<(Config, tree::Node), Vec<Fault>> {
    let options = source::options();
    let read = serde_saphyr::from_str_with_options::<tree::Placed>(&source.text, options);
    let tree = read.map_err(|fault| vec![syntax_fault(source, &fault)])?.value;
    check::check(source, &tree, description)?;

    let message = serde_saphyr::with_deserializer_from_str_with_options(
        &source.text,
        source::options(),
        |deserializer| DynamicMessage::deserialize(description.clone(), deserializer),
    );
    let message = message.map_err(|fault| vec![type_fault(source, &tree, description, &fault)])?;
    match message.transcode_to() {
        Ok(config) => Ok((config, tree)),
        Err(fault) => Err(vec![source.fault(None, fault.to_string())]),
    }
}

fn syntax_fault(source: &Source, fault: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error as Yaml;
    let line = fault.location().map(|location| location.line());
    // Within an alias the fault itself is one level down.
    let mut what = fault.without_snippet();
    while let Yaml::AliasError { error, .. } = what {
        what = error;
    }
    let message = match what {
        Yaml::MultipleDocuments { .. } => {
            "a second document begins: put it into its own file".into()
        }
        Yaml::DuplicateMappingKey { key: Some(key), .. } => {
            format!("field '{key}' stands here a second time: keep one")
        }
        Yaml::Budget { .. } => {
            "holds more than can be read: split it, nest less, or write out anchors".into()
        }
        other => without_place(&other.to_string()),
    };
    source.fault(line, message)
}

/// A value the message can't take: containers are checked before, so it is a single value.
fn type_fault(
    source: &Source,
    tree: &tree::Node,
    description: &MessageDescriptor,
    fault: &serde_saphyr::Error,
) -> Fault {
    let Some(location) = fault.location() else {
        return source.fault(None, without_place(&fault.without_snippet().to_string()));
    };
    let path = tree.path_at(location.line(), location.column());
    let message = match check::expected(description, &path) {
        Some(expected) => format!("{path} must be {expected}"),
        None => format!("{path}: {}", without_place(&fault.without_snippet().to_string())),
    };
    source.fault(Some(location.line()), message)
}

/// The text of a fault without `at line 3, column 4`, which is said in front.
fn without_place(text: &str) -> String {
    text.rsplit_once(" at line ").map_or(text, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests;
