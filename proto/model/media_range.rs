//! Which content types a rule is for (RFC 9110 section 12.5.1, without parameters).

/// `application/json`, `text/*`, `application/*+json` or `*/*`, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaRange {
    /// Empty: any.
    kind: Box<str>,
    /// What stands before a `*`; the whole subtype where there is none.
    begin: Box<str>,
    /// What stands behind the `*`; `None`: there is none.
    end: Option<Box<str>>,
}

impl MediaRange {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "is '{text}': give a content type such as 'application/json', 'text/*' or \
                 'application/*+json'"
            )
        };
        let is_token = |part: &str| {
            part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b))
        };
        let lower = text.to_ascii_lowercase();
        let (kind, subtype) = lower.split_once('/').ok_or_else(fault)?;
        let (begin, end) = match subtype.split_once('*') {
            Some((begin, end)) => (begin, Some(end)),
            None => (subtype, None),
        };
        let kind = if kind == "*" && subtype == "*" {
            Some("")
        } else {
            Some(kind).filter(|k| !k.is_empty())
        };
        let kind = kind.ok_or_else(fault)?;
        let parts = [kind, begin, end.unwrap_or_default()];
        if text.len() > 128 || subtype.is_empty() || !parts.into_iter().all(is_token) {
            return Err(fault());
        }
        Ok(Self { kind: kind.into(), begin: begin.into(), end: end.map(Into::into) })
    }

    /// Whether a `Content-Type` is one of them, whatever its parameters.
    #[must_use]
    pub fn holds(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let mut parts = essence.splitn(2, |b| *b == b'/');
        let (Some(kind), Some(subtype)) = (parts.next(), parts.next()) else { return false };
        let is = |a: &[u8], b: &str| a.eq_ignore_ascii_case(b.as_bytes());
        if !self.kind.is_empty() && !is(kind, &self.kind) {
            return false;
        }
        let Some(end) = &self.end else { return is(subtype, &self.begin) };
        let begins = subtype.get(..self.begin.len()).is_some_and(|part| is(part, &self.begin));
        let behind = subtype.get(self.begin.len()..).unwrap_or_default();
        let ends = behind.len().checked_sub(end.len()).and_then(|at| behind.get(at..));
        begins && ends.is_some_and(|part| is(part, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for (range, content_type, holds) in [
            ("application/json", "application/json", true),
            ("application/json", "Application/JSON; charset=utf-8", true),
            ("application/json", "application/jsonp", false),
            ("application/json", "text/json", false),
            ("text/*", "text/html;charset=x", true),
            ("text/*", "text/", true),
            ("text/*", "texts/html", false),
            ("application/*+json", "application/problem+json", true),
            ("application/*+json", "application/json", false),
            ("application/x+*+x", "application/x+x", false),
            ("*/*", "image/png", true),
            ("*/*", "", false),
            ("*/*", "text", false),
        ] {
            let parsed = MediaRange::parse(range).expect("a range");
            assert_eq!(parsed.holds(content_type.as_bytes()), holds, "{range} {content_type}");
        }
        for text in
            ["", "/", "json", "text/", "/html", "*/html", "te*/x", "a/*b*", "a/b c", "a/b;c"]
        {
            assert!(MediaRange::parse(text).is_err(), "{text}");
        }
    }
}
