//! Labels: free pairs on routes, upstreams and plans, by which people pick some of them out.

use std::collections::BTreeMap;

use super::{Violations, bounds};

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
