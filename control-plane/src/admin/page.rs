//! Pages of lists: how many, and where the next one starts.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    error::Error,
    store::{Cursor, Page},
};

/// Objects on a page when the request does not say.
const DEFAULT_SIZE: u32 = 50;
/// At most, whatever the request says.
const MAX_SIZE: u32 = 1000;

/// One page of one list.
pub(super) struct Paging {
    after: Option<Cursor>,
    size: u32,
    /// Which list: a token of another one is refused.
    list: u32,
}

impl Paging {
    /// Reads `page_size` and `page_token`. `list` holds all else the request asks for.
    pub(super) fn parse(size: i32, token: &str, list: &[&str]) -> Result<Self, Error> {
        let size = match u32::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => return Err(Error::field("page_size", format!("is {size}: give 1 to 1000"))),
        };
        let list = checksum(list);
        if token.is_empty() {
            return Ok(Self { after: None, size, list });
        }
        let bad = || {
            Error::field(
                "page_token",
                "is none of this list: give the last answer's next_page_token and the same filters",
            )
        };
        let (of, cursor) = decode(token).ok_or_else(bad)?;
        if of != list {
            return Err(bad());
        }
        Ok(Self { after: Some(cursor), size, list })
    }

    /// What to ask the store for: one more than fits, to see whether another page follows.
    pub(super) fn query(&self) -> Page {
        Page { after: self.after.clone(), limit: self.size.saturating_add(1) }
    }

    /// Cuts what the store gave to a page; the token of the next one is empty on the last.
    pub(super) fn cut<T>(
        &self,
        mut found: Vec<T>,
        cursor: impl Fn(&T) -> Cursor,
    ) -> (Vec<T>, String) {
        let size = self.size as usize;
        if found.len() <= size {
            return (found, String::new());
        }
        found.truncate(size);
        let token = found.last().map(|last| encode(self.list, &cursor(last))).unwrap_or_default();
        (found, token)
    }

    /// A page of a list that is whole in memory and ordered by id.
    pub(super) fn cut_all<T>(&self, mut all: Vec<T>, id: impl Fn(&T) -> &str) -> (Vec<T>, String) {
        if let Some(after) = &self.after {
            all.retain(|object| id(object) > after.id.as_str());
        }
        self.cut(all, |object| Cursor::by_id(id(object)))
    }
}

fn checksum(list: &[&str]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in list {
        // The length keeps parts apart that run together to the same text.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

fn encode(list: u32, cursor: &Cursor) -> String {
    let mut bytes = list.to_be_bytes().to_vec();
    bytes.extend(cursor.at_us.to_be_bytes());
    bytes.extend(cursor.id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(token: &str) -> Option<(u32, Cursor)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (list, rest) = bytes.split_first_chunk::<4>()?;
    let (at_us, id) = rest.split_first_chunk::<8>()?;
    let id = String::from_utf8(id.to_vec()).ok()?;
    if id.chars().any(char::is_control) {
        return None;
    }
    Some((u32::from_be_bytes(*list), Cursor { at_us: i64::from_be_bytes(*at_us), id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(size: i32, token: &str) -> Result<Paging, Error> {
        Paging::parse(size, token, &["keys", "default"])
    }

    #[test]
    fn a_token_leads_to_the_next_page_and_no_further() {
        let all: Vec<String> = (0..5).map(|n| format!("id{n}")).collect();
        let mut token = String::new();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let paging = parse(2, &token).expect("a page");
            let (page, next) = paging.cut_all(all.clone(), |id| id);
            seen.extend(page);
            token = next;
        }
        assert_eq!((seen, token), (all, String::new()));
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        let paging = parse(2, "").expect("a page");
        let (page, next) = paging.cut_all(vec!["a", "b"], |id| id);
        assert_eq!((page.len(), next), (2, String::new()));
    }

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        for (asked, given) in [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
            assert_eq!(parse(asked, "").expect("a page").size, given);
        }
        assert!(parse(-1, "").is_err());
    }

    #[test]
    fn foreign_and_broken_tokens_are_refused() {
        let of_another_list = encode(checksum(&["keys", "other"]), &Cursor::by_id("x"));
        // No id holds one, and Postgres keeps none in a text.
        let with_a_nul = encode(checksum(&["keys", "default"]), &Cursor::by_id("x\0"));
        for token in ["!", "AAAA", "é", &of_another_list, "' OR 1=1 --", &with_a_nul] {
            assert!(parse(1, token).is_err(), "{token}");
        }
    }
}
