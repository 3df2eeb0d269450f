//! Labels: what nodes are told apart by.

use std::{collections::BTreeMap, fmt};

use super::bounds;

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
            let both =
                text.split_once('=').filter(|(name, value)| is_name(name) && is_value(value));
            let Some((name, value)) = both else {
                return Err(format!(
                    "has '{}', which is no label: give a name of a-z, 0-9, '.', '_', '-' and '/', and a value \
                     of up to 63 letters, digits, '.', '_' and '-', such as tier=canary",
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

fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

fn is_value(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
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
        for wrong in ["", "a", "=b", "a=", "A=b", "a=b c", "a=b=c", "a b=c", long.as_str()] {
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
}
