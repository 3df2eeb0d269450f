//! Selectors: which objects are meant, by their labels.

use std::{collections::BTreeMap, str::FromStr};

use fastgate::model::fits_label;

/// The most terms of one.
const TERMS: usize = 16;

/// Terms that labels must fit, all of them; none: everything fits.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Selector(Vec<Term>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    key: String,
    value: String,
    /// `key=value`; else `key!=value`, which a missing label fits as well.
    is_equal: bool,
}

impl Selector {
    /// Whether an object with these labels is meant.
    pub(crate) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| (labels.get(&term.key) == Some(&term.value)) == term.is_equal)
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let terms: Vec<_> = text.split(',').map(Term::parse).collect::<Result<_, _>>()?;
        if terms.len() > TERMS {
            return Err(format!("has more than {TERMS} terms"));
        }
        Ok(Self(terms))
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value, is_equal) = match (text.split_once("!="), text.split_once('=')) {
            (Some((key, value)), _) => (key, value, false),
            (None, Some((key, value))) => (key, value, true),
            (None, None) => ("", "", true),
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || !fits_label(key) || !fits_label(value) {
            let text = text.escape_debug();
            return Err(format!(
                "holds '{text}': write key=value or key!=value, with commas between"
            ));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), is_equal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_when_all_terms_do() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let object = labels(&[("team", "payments"), ("tier", "1"), ("empty", "")]);
        for (text, fits) in [
            ("", true),
            (" ", true),
            ("team=payments", true),
            ("team=orders", false),
            ("team=payments,tier=1", true),
            ("team=payments, tier = 2", false),
            ("team!=orders", true),
            ("team!=payments", false),
            ("missing!=x", true),
            ("missing=", false),
            ("empty=", true),
        ] {
            assert_eq!(text.parse::<Selector>().expect(text).fits(&object), fits, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["team", "=x", "a=b,", "a==b", "a=b=c", "a b=c", "!=x", "a=b;c"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
        let long = ["a=b"; TERMS + 1].join(",");
        assert!(long.parse::<Selector>().is_err());
    }
}
