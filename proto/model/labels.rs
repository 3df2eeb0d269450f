//! Labels: free pairs by which routes, upstreams and plans are picked out, and nodes told apart.

use std::{collections::BTreeMap, fmt};

use super::{Violations, bounds};

/// Names with a value each, such as `tier=canary`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Labels(BTreeMap<Box<str>, Box<str>>);

impl Labels {
    /// Reads labels as they are written.
    ///
    /// # Errors
    /// The first one that is wrong, what is wrong with it and how to mend it.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut labels = BTreeMap::new();
        for text in texts {
            let is_sound = |part: &str| !part.is_empty() && fits(part);
            let both =
                text.split_once('=').filter(|(name, value)| is_sound(name) && is_sound(value));
            let Some((name, value)) = both else {
                return Err(format!(
                    "has '{}', which is no label: give a name and a value, each {FORM}, such as tier=canary",
                    text.escape_default()
                ));
            };
            if labels.insert(name.into(), value.into()).is_some() {
                return Err(format!("has two values for '{name}': give one"));
            }
            if labels.len() > bounds::LABELS {
                return Err(format!("has more than {} labels", bounds::LABELS));
            }
        }
        Ok(Self(labels))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub fn contains(&self, others: &Self) -> bool {
        others.0.iter().all(|(name, value)| self.0.get(name) == Some(value))
    }

    /// As they are written, by name.
    pub fn written(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written().collect::<Vec<_>>().join(","))
    }
}

/// Checks the labels of an object. Nothing is made of them: nodes do not look at them.
pub(super) fn check(labels: &BTreeMap<String, String>, faults: &mut Violations) {
    if labels.len() > bounds::LABELS {
        faults.add("labels", format!("are more than {}", bounds::LABELS));
    }
    for (key, value) in labels {
        // A key that is wrong may hold anything: it is told as it can be read.
        let field = format!("labels.{}", key.escape_debug());
        if key.is_empty() || !fits(key) {
            faults.add(field, format!("has no name {FORM}"));
        } else if !fits(value) {
            faults.add(field, format!("must be empty or {FORM}"));
        }
    }
}

/// What can stand in a selector without being taken for a part of it.
const FORM: &str = "of up to 63 letters, digits, '-', '_', '.' and '/'";

/// Whether a text may be the key or the value of a label.
#[must_use]
pub fn fits(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    text.len() <= bounds::LABEL && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_by_name() {
        let labels = Labels::parse(["zone=eu-1", "example.com/tier=Canary"]).expect("labels");
        assert_eq!(labels.to_string(), "example.com/tier=Canary,zone=eu-1");
        assert!(Labels::parse([]).expect("none").is_empty());
    }

    #[test]
    fn what_is_no_label_is_told() {
        let long = format!("a={}", "x".repeat(64));
        for wrong in ["", "a", "=b", "a=", "a=b c", "a=b=c", "a b=c", long.as_str()] {
            let told = Labels::parse(["ok=1", wrong]).expect_err(wrong);
            assert!(told.starts_with("has '") && told.ends_with("such as tier=canary"), "{told}");
        }
        assert!(Labels::parse(["a=1", "a=2"]).expect_err("twice").contains("two values for 'a'"));
        let many: Vec<_> = (0..17).map(|n| format!("l{n}=x")).collect();
        let told = Labels::parse(many.iter().map(String::as_str)).expect_err("many");
        assert_eq!(told, "has more than 16 labels");
    }

    #[test]
    fn all_of_the_others_must_be_there() {
        let parse = |texts: &[&str]| Labels::parse(texts.iter().copied()).expect("labels");
        let node = parse(&["tier=canary", "zone=a"]);
        for (others, are_there) in [
            (&[][..], true),
            (&["zone=a"], true),
            (&["zone=a", "tier=canary"], true),
            (&["zone=b"], false),
            (&["zone=a", "rack=1"], false),
        ] {
            assert_eq!(node.contains(&parse(others)), are_there, "{others:?}");
        }
    }

    #[test]
    fn labels_are_short_and_hold_nothing_a_selector_reads() {
        let faults = |pairs: &[(&str, &str)]| {
            let labels = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let mut faults = Violations::default();
            check(&labels, &mut faults);
            faults.iter().map(|fault| fault.field.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            faults(&[("team", "payments"), ("example.com/tier", ""), ("A-b_c", "1.2")]),
            [""; 0]
        );
        let long = "a".repeat(64);
        for (key, value) in
            [("", "a"), ("a b", "c"), ("a=b", "c"), ("a", "b,c"), (&long, ""), ("a", &long)]
        {
            let found = faults(&[(key, value)]);
            assert_eq!(found.len(), 1, "{key}={value}: {found:?}");
        }
        let many: Vec<_> = (0..17).map(|n| format!("k{n}")).collect();
        let many: Vec<_> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(faults(&many), ["labels"]);
    }
}
