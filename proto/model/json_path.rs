//! Where in a JSON value something stands: RFC 9535 without filters, slices and lists of
//! selectors, so that one pass over a value finds all a path names, however it is made.

use super::bounds;

/// `$.password`, `$.items[*].card`, `$..token`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonPath(Vec<Step>);

/// One step from a value to those in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Whether it may be taken from any value below, too (`..`).
    pub is_deep: bool,
    /// Which values it leads to.
    pub to: Selector,
}

/// Which of the values in a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// The member of this name.
    Name(Box<str>),
    /// The item at this place of a list.
    Index(usize),
    /// All of them.
    Every,
}

/// Steps of a path, which a set of them in a number has to hold.
const STEPS: usize = 32;

impl JsonPath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > bounds::TEXT {
            return Err(format!("is longer than {} bytes", bounds::TEXT));
        }
        let fault = |why: &str| {
            format!(
                "is '{text}', {why}: write a path such as '$.password', '$.items[*].card' or '$..token'"
            )
        };
        let mut rest = text.strip_prefix('$').ok_or_else(|| fault("which begins with no '$'"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = step(rest).map_err(fault)?;
            steps.push(step);
            rest = behind;
        }
        match steps.len() {
            0 => Err(fault("which is the whole body")),
            1..=STEPS => Ok(Self(steps)),
            _ => Err(fault("which has more than 32 steps")),
        }
    }

    /// The steps from the top, one at least and 32 at most.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// One step, and what stands behind it.
fn step(text: &str) -> Result<(Step, &str), &'static str> {
    let is_deep = text.starts_with("..");
    let rest = text.trim_start_matches('.');
    let (to, rest) = match text.len() - rest.len() {
        0 if rest.starts_with('[') => bracket(rest)?,
        1 => word(rest)?,
        2 if rest.starts_with('[') => bracket(rest)?,
        2 => word(rest)?,
        _ => return Err("in which a step begins with neither '.' nor '['"),
    };
    Ok((Step { is_deep, to }, rest))
}

/// A name or `*`.
fn word(text: &str) -> Result<(Selector, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Selector::Every, rest));
    }
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    let end = text.find(|c| !in_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or_default();
    match name.chars().next() {
        None => Err("in which a name is missing"),
        Some('0'..='9') => Err("in which a name begins with a digit"),
        // A name such as 'x-y' has to stand in brackets.
        Some(_) if !(rest.is_empty() || rest.starts_with(['.', '['])) => {
            Err("in which a name holds more than letters, digits and '_', and is not in ['...']")
        }
        Some(_) => Ok((Selector::Name(name.into()), rest)),
    }
}

/// `[*]`, `[3]`, `['name']` or `["name"]`.
fn bracket(text: &str) -> Result<(Selector, &str), &'static str> {
    let inner = text.strip_prefix('[').unwrap_or(text).trim_start();
    let (to, rest) = match inner.chars().next() {
        Some('*') => (Selector::Every, inner.strip_prefix('*').unwrap_or_default()),
        Some(quote @ ('\'' | '"')) => quoted(inner, quote)?,
        Some('0'..='9') => {
            let end = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
            let (digits, rest) = inner.split_at_checked(end).unwrap_or_default();
            (Selector::Index(digits.parse().map_err(|_| "in which a number is too large")?), rest)
        }
        _ => {
            return Err(
                "in which '[' holds no name in quotes, number or '*' (filters are unknown)",
            );
        }
    };
    let rest = rest.trim_start().strip_prefix(']');
    Ok((to, rest.ok_or("in which ']' does not follow (slices and lists are unknown)")?))
}

/// A name in quotes, where `\` stands before a quote or another `\`.
fn quoted(text: &str, quote: char) -> Result<(Selector, &str), &'static str> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                let rest = text.get(at + 1..).unwrap_or_default();
                return Ok((Selector::Name(name.into()), rest));
            }
            '\\' => match chars.next() {
                Some((_, c @ ('\'' | '"' | '\\'))) => name.push(c),
                _ => return Err("in which '\\' stands before no quote"),
            },
            c => name.push(c),
        }
    }
    Err("in which a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let path = JsonPath::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let step = |step: &Step| {
            let to = match &step.to {
                Selector::Name(name) => format!("<{name}>"),
                Selector::Index(at) => at.to_string(),
                Selector::Every => "*".into(),
            };
            if step.is_deep { format!("..{to}") } else { to }
        };
        path.steps().iter().map(step).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_are_read_step_by_step() {
        for (text, steps) in [
            ("$.password", "<password>"),
            ("$.items[*].card", "<items> * <card>"),
            ("$..token", "..<token>"),
            ("$.*..a[12]", "* ..<a> 12"),
            ("$..*", "..*"),
            ("$..[3]", "..3"),
            ("$['a b'][ \"c'd\" ]", "<a b> <c'd>"),
            (r"$['it\'s\\']", r"<it's\>"),
            ("$['']", "<>"),
            ("$.用户", "<用户>"),
        ] {
            assert_eq!(shown(text), steps, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        let deep = "$".to_owned() + &".a".repeat(33);
        for (text, why) in [
            ("", "begins with no '$'"),
            ("password", "begins with no '$'"),
            ("$", "the whole body"),
            ("$x", "neither"),
            ("$...a", "neither"),
            ("$.", "missing"),
            ("$.a.", "missing"),
            ("$.1a", "digit"),
            ("$.a-b", "not in ['...']"),
            ("$[?@.a]", "filters"),
            ("$[-1]", "filters"),
            ("$[1:2]", "slices"),
            ("$['a','b']", "slices"),
            ("$['a]", "not closed"),
            (r"$['\n']", "no quote"),
            ("$[99999999999999999999]", "too large"),
            (&deep, "32 steps"),
        ] {
            let fault = JsonPath::parse(text).expect_err(text);
            assert!(fault.contains(why), "{text}: {fault}");
        }
        assert!(JsonPath::parse(&format!("$.{}", "a".repeat(200))).is_err());
    }
}
