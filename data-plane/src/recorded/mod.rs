//! What is recorded of a request beside what always is, as its route says: copied as it passes
//! by, within bounds, and nowhere written before secrets are taken out.
//!
//! ```text
//! worker thread                                   collector thread
//! headers: values of secrets are never copied --> written
//! bodies:  the first bytes, as they come -------> redacted, then written
//! ```

mod body;
mod room;

use std::sync::Arc;

use fastgate::model::{RecordedName, Recording};

use self::room::Held;
pub(crate) use self::{
    body::{Body, Omitted, Tap},
    room::Room,
};
use crate::{
    framing::Framing,
    head::{Kind, Lines},
};

/// What is recorded of a value; it must stand in the log, not fill it.
const VALUE: usize = 512;

/// In place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// In place of what there was no room for.
const OMITTED: &str = "[omitted]";

/// What is recorded of one request.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// What is asked for.
    pub(crate) rules: Arc<Recording>,
    room: Room,
    /// Of the request, the values of those that are asked for.
    pub(crate) request_headers: Headers,
    /// The same of the answer.
    pub(crate) response_headers: Headers,
    /// Of the request's body; taken over from where it was read when the request is over.
    pub(crate) request_body: Option<Box<Tap>>,
    /// Of the answer's, once it has begun.
    pub(crate) response_body: Option<Box<Tap>>,
}

/// Values of headers, each with its place among the names that are asked for.
#[derive(Default, Debug)]
pub(crate) struct Headers {
    values: Vec<(usize, Value)>,
    held: Vec<Held>,
}

/// What is recorded of one value.
#[derive(PartialEq, Eq, Debug)]
enum Value {
    Copied(Box<[u8]>),
    Redacted,
    Omitted,
}

impl Recorded {
    /// Begins with the head of a request.
    pub(crate) fn begin(rules: &Arc<Recording>, room: &Room, lines: Lines<'_>) -> Box<Self> {
        let mut request_headers = Headers::default();
        if !rules.request_headers.is_empty() {
            let each = lines.iter().map(|line| (line.name, line.value));
            each.for_each(|(name, value)| {
                request_headers.see(&rules.request_headers, name, value, room);
            });
        }
        Box::new(Self {
            rules: rules.clone(),
            room: room.clone(),
            request_headers,
            response_headers: Headers::default(),
            request_body: None,
            response_body: None,
        })
    }

    /// What is to see the request's body as it comes; `None`: nobody wants it.
    pub(crate) fn request_tap(&self, lines: Lines<'_>, framing: Framing) -> Option<Box<Tap>> {
        self.tap(lines, framing, self.rules.request_body_bytes)
    }

    /// Sees the answer's body from now on.
    pub(crate) fn answer_begins(&mut self, lines: Lines<'_>, framing: Framing) {
        self.response_body = self.tap(lines, framing, self.rules.response_body_bytes);
    }

    /// Sees a line of the head of the answer that the client gets.
    pub(crate) fn see_answer_line(&mut self, name: &[u8], value: &[u8]) {
        self.response_headers.see(&self.rules.response_headers, name, value, &self.room);
    }

    /// Takes what was seen of the request's body, and notes whether all of the answer went by.
    pub(crate) fn ends(&mut self, request_body: Option<Box<Tap>>, is_answered: bool) {
        self.request_body = request_body;
        if is_answered && let Some(tap) = &mut self.response_body {
            tap.end();
        }
    }

    fn tap(&self, lines: Lines<'_>, framing: Framing, limit: usize) -> Option<Box<Tap>> {
        if limit == 0 || matches!(framing, Framing::Absent | Framing::Length(0)) {
            return None;
        }
        let named = |name: &[u8]| {
            let mut those = lines.iter().filter(|line| line.kind == Kind::Other);
            let line = those.find(|line| line.name.eq_ignore_ascii_case(name));
            line.map(|line| line.value).unwrap_or_default()
        };
        let (content_type, coding) = (named(b"content-type"), named(b"content-encoding"));
        let is_coded = !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
        let is_asked_for = self.rules.body_types.iter().any(|range| range.holds(content_type));
        let must_be_whole = !self.rules.redact.is_empty();
        let is_too_long = matches!(framing, Framing::Length(length) if length > limit as u64);
        let omitted = match () {
            () if !is_asked_for => Some(Omitted::ContentType),
            () if is_coded => Some(Omitted::ContentEncoding),
            () if must_be_whole && is_too_long => Some(Omitted::Truncated),
            () => None,
        };
        Some(Box::new(Tap::new(content_type, limit, omitted, &self.room)))
    }
}

impl Headers {
    fn see(&mut self, names: &[RecordedName], name: &[u8], value: &[u8], room: &Room) {
        let is_it = |asked: &RecordedName| name.eq_ignore_ascii_case(asked.name.as_bytes());
        let Some(at) = names.iter().position(is_it) else { return };
        // One that comes again adds nothing beyond the bound; heads have few lines.
        let before: usize =
            self.values.iter().filter(|(of, _)| *of == at).map(|(_, v)| v.len()).sum();
        if before >= VALUE {
            return;
        }
        let is_secret = names.get(at).is_none_or(|asked| asked.is_secret);
        let value = value.get(..value.len().min(VALUE - before)).unwrap_or_default();
        let value = match room.take(value.len()) {
            _ if is_secret => Value::Redacted,
            None => Value::Omitted,
            Some(held) => {
                self.held.push(held);
                Value::Copied(value.into())
            }
        };
        self.values.push((at, value));
    }

    /// Shows each name and value, in the order they came.
    pub(crate) fn each<'a>(
        &'a self,
        names: &'a [RecordedName],
        mut show: impl FnMut(&'a str, &'a [u8]),
    ) {
        for (at, value) in &self.values {
            if let Some(asked) = names.get(*at) {
                show(&asked.name, value.shown());
            }
        }
    }
}

impl Value {
    fn len(&self) -> usize {
        // Of a secret that comes often one line is as good as all.
        if let Self::Copied(value) = self { value.len() } else { VALUE }
    }

    fn shown(&self) -> &[u8] {
        match self {
            Self::Copied(value) => value,
            Self::Redacted => REDACTED.as_bytes(),
            Self::Omitted => OMITTED.as_bytes(),
        }
    }
}
