//! How faults of a message are collected: all of them, each with its field.

use std::{fmt, time::Duration};

use super::bounds;

/// One fault of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Where, such as `targets[0].url`.
    pub field: String,
    /// What is wrong with the value, and the mend.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

/// The faults of one message, in the order of its fields.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// A single fault.
    pub fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        let mut faults = Self::default();
        faults.add(field, description);
        faults
    }

    /// Notes a fault.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Takes over the faults of a part, whose fields stand below `field`.
    pub fn add_below(&mut self, field: &str, part: Self) {
        for fault in part.0 {
            self.add(format!("{field}.{}", fault.field), fault.description);
        }
    }

    /// Whether no fault was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults in order.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `value`, if nothing was found wrong; the faults otherwise.
    ///
    /// # Errors
    /// The faults.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The value of a part, or its stand-in after its faults were noted below `field`.
    pub(super) fn take<T>(&mut self, field: &str, part: Result<T, String>, stand_in: T) -> T {
        part.unwrap_or_else(|description| {
            self.add(field, description);
            stand_in
        })
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            violation.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

impl Extend<Violation> for Violations {
    fn extend<I: IntoIterator<Item = Violation>>(&mut self, faults: I) {
        self.0.extend(faults);
    }
}

impl FromIterator<Violation> for Violations {
    fn from_iter<I: IntoIterator<Item = Violation>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Checks a free text for people: bounded, on one line.
///
/// # Errors
/// What is wrong with it and how to mend it.
pub fn text(value: &str) -> Result<String, String> {
    if value.chars().count() > bounds::TEXT {
        return Err(format!("is longer than {} characters: shorten it", bounds::TEXT));
    }
    if value.chars().any(char::is_control) {
        return Err("holds a control character: remove it".into());
    }
    Ok(value.to_owned())
}

/// Seconds as users write them, if they do.
pub(super) fn seconds(value: Option<f64>) -> Result<Option<Duration>, String> {
    let Some(seconds) = value else {
        return Ok(None);
    };
    if !(seconds > 0.0 && seconds <= bounds::TIMEOUT_SECONDS) {
        return Err(format!(
            "is {seconds}: give seconds above 0 and at most {}",
            bounds::TIMEOUT_SECONDS
        ));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}
