//! How a server reads its settings: a YAML file of known fields, and all mistakes told at once.
//!
//! What is given may be a secret, so no mistake repeats more of a file than the name of a field.

use std::fmt;

use serde::de::DeserializeOwned;

/// What is wrong with settings, one line each.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// A single mistake.
    pub fn one(mistake: impl Into<String>) -> Self {
        Self(vec![mistake.into()])
    }

    /// The value of a setting; `None` when it was not given, or when it is wrong, which is noted.
    pub fn take<T>(
        &mut self,
        flag: &str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(&text?).map_err(|mistake| self.0.push(format!("{flag} {mistake}"))).ok()
    }

    /// Puts the value of a setting in its place, if it was given.
    pub fn put<T>(
        &mut self,
        flag: &str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
        place: &mut T,
    ) {
        if let Some(value) = self.take(flag, text, parse) {
            *place = value;
        }
    }

    /// The mistakes in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// `value`, if nothing was found wrong; the mistakes otherwise.
    ///
    /// # Errors
    /// The mistakes.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Reads the text of a settings file; `name` is what it is called in mistakes.
///
/// # Errors
/// What is wrong with it, with file, line and field.
pub fn from_yaml<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Mistakes> {
    // A snippet would show the lines around the fault, and with them a password.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let line = fault.location().map_or(0, |at| at.line());
        Mistakes::one(match &fault {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                let expected = expected.join(", ");
                format!("{name}:{line}: unknown field '{field}': use one of {expected}")
            }
            other => format!("{name}:{line}: {other}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[expect(dead_code, reason = "read, never looked at")]
        url: String,
        #[expect(dead_code, reason = "read, never looked at")]
        workers: Option<String>,
    }

    #[test]
    fn a_fault_is_named_with_file_and_line_and_shows_no_secret() {
        for (text, expected) in [
            (
                "url: a://u:hidden@h\nwokers: 1\n",
                ":2: unknown field 'wokers': use one of url, workers",
            ),
            ("url: [a://:hidden@h]\n", ":1: "),
            ("url: 'hidden\n", ":"),
            ("hidden", ":"),
        ] {
            let found = from_yaml::<File>("x.yaml", text).expect_err(text).to_string();
            assert!(found.starts_with(&format!("x.yaml{expected}")), "{found}");
            assert!(!found.contains("hidden"), "{found}");
        }
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let number = |text: &str| text.parse::<u8>().map_err(|_| format!("is '{text}'"));
        let (mut found, mut first) = (Mistakes::default(), 1);
        found.put("--first", Some("2".into()), number, &mut first);
        found.put("--first", None, number, &mut first);
        found.put("--second", Some("x".into()), number, &mut first);
        assert_eq!(found.take("--third", Some("-1".into()), number), None);
        assert_eq!(first, 2);
        assert_eq!(
            found.or(()).map_err(|f| f.to_string()),
            Err("--second is 'x'\n--third is '-1'".into())
        );
    }
}
