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

    /// Notes one more.
    pub fn add(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
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

/// The filter of the log, from what `FASTGATE_LOG` says: a level, `target=level`, or several of
/// them with commas between. Where it says nothing, `unless_said` is the level.
///
/// # Errors
/// What is wrong with it. A misspelt level would otherwise be taken for a target, and silence
/// the log.
pub fn log_filter(said: Option<&str>, unless_said: &str) -> Result<String, Mistakes> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let Some(said) = said.filter(|said| !said.is_empty()) else {
        // The database driver tells at every start what it need not do; those of Redis and
        // NATS, of a server that is away, each try, and the node tells that once; TLS, of every
        // client whose hello is a little odd.
        return Ok(format!("{unless_said},sqlx=warn,redis=off,async_nats=off,rustls=error"));
    };
    let is_level = |text: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_sound = |part: &str| match part.split_once('=') {
        None => is_level(part),
        Some((target, level)) => !target.is_empty() && is_level(level),
    };
    if said.split(',').map(str::trim).all(is_sound) {
        return Ok(said.to_owned());
    }
    Err(Mistakes::one(format!(
        "FASTGATE_LOG is '{said}': give one of {}, or target=level, with commas between",
        LEVELS.join(", ")
    )))
}

/// Reads the text of a settings file; `name` is what it is called in mistakes.
///
/// # Errors
/// What is wrong with it, with file, line and field.
pub fn from_yaml<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Mistakes> {
    // A snippet would show the lines around the fault, and with them a password.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let line = fault.location().map_or(0, |at| at.line());
        let told = match &fault {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                let expected = expected.join(", ");
                format!("unknown field '{field}': use one of {expected}")
            }
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("field '{key}' stands here a second time: keep one")
            }
            other => {
                let field = field_of(text, line).map(|field| format!("{field}: "));
                let told = other.to_string();
                let told = told.split(" at line ").next().unwrap_or_default();
                format!("{}{told}: give one value for each field", field.unwrap_or_default())
            }
        };
        Mistakes::one(format!("{name}:{line}: {told}"))
    })
}

/// The field a line begins with.
fn field_of(text: &str, line: u64) -> Option<&str> {
    let at = usize::try_from(line).ok()?.checked_sub(1)?;
    let (field, _) = text.lines().nth(at)?.split_once(':')?;
    let field = field.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!field.is_empty() && field.chars().all(is_name)).then_some(field)
}

/// Bytes, or so many KiB, MiB or GiB (`1GiB`); `None`: it is something else, or more than there can be.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let with_unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = with_unit.unwrap_or((text, 0));
    number.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
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
            ("url: [a://:hidden@h]\n", ":1: url: "),
            ("url: a\nurl: hidden\n", ":2: field 'url' stands here a second time: keep one"),
            ("url: 'hidden\n", ":"),
            ("hidden", ":"),
        ] {
            let found = from_yaml::<File>("x.yaml", text).expect_err(text).to_string();
            assert!(found.starts_with(&format!("x.yaml{expected}")), "{found}");
            assert!(!found.contains("hidden"), "{found}");
        }
    }

    #[test]
    fn a_log_filter_that_would_silence_the_log_is_refused() {
        assert_eq!(
            log_filter(None, "info"),
            Ok("info,sqlx=warn,redis=off,async_nats=off,rustls=error".into())
        );
        assert_eq!(
            log_filter(Some(""), "warn"),
            Ok("warn,sqlx=warn,redis=off,async_nats=off,rustls=error".into())
        );
        for sound in ["info", "DEBUG", "warn, fastgate=trace", "hyper=off"] {
            assert_eq!(log_filter(Some(sound), "info"), Ok(sound.into()));
        }
        for wrong in ["inof", "a=b=c", "=info", "fastgate", "info,", "a=4"] {
            let mistake = log_filter(Some(wrong), "info").expect_err(wrong).to_string();
            assert!(mistake.starts_with(&format!("FASTGATE_LOG is '{wrong}': give ")), "{mistake}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("3KiB", Some(3 << 10)),
            ("2 GiB", Some(2 << 30)),
            ("17179869184GiB", None),
            ("1GB", None),
            ("GiB", None),
            ("-1", None),
            ("1.5GiB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
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
