//! Pages of lists: how many, and where the next one starts.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use crc32fast::Hasher;

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
    /// Begins the checksum of its tokens: one of another list is refused.
    list: Hasher,
}

impl Paging {
    /// Reads `page_size` and `page_token`. `list` holds all else the request asks for.
    pub(super) fn parse(size: i32, token: &str, list: &[&str]) -> Result<Self, Error> {
        let size = match u32::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => return Err(Error::field("page_size", format!("is {size}: give 1 to 1000"))),
        };
        let list = hasher_of(list);
        if token.is_empty() {
            return Ok(Self { after: None, size, list });
        }
        let bad = || {
            Error::field(
                "page_token",
                "is none of this list: give the last answer's next_page_token and the same filters",
            )
        };
        let cursor = decode(&list, token).ok_or_else(bad)?;
        Ok(Self { after: Some(cursor), size, list })
    }

    /// What to ask the store for: one more than fits, to see whether another page follows.
    pub(super) fn query(&self) -> Page {
        Page { after: self.after.clone(), limit: self.size.saturating_add(1) }
    }

    /// Cuts what the store gave to a page; the token of the next one is empty on the last.
    pub(super) fn cut<T>(&self, found: Vec<T>, cursor: impl Fn(&T) -> Cursor) -> (Vec<T>, String) {
        self.cut_short(found, false, cursor)
    }

    /// The same where the store may have given less than there is: it `is_short` then.
    pub(super) fn cut_short<T>(
        &self,
        mut found: Vec<T>,
        is_short: bool,
        cursor: impl Fn(&T) -> Cursor,
    ) -> (Vec<T>, String) {
        let size = self.size as usize;
        if found.len() <= size && !is_short {
            return (found, String::new());
        }
        found.truncate(size);
        let token = found.last().map(|last| encode(&self.list, &cursor(last))).unwrap_or_default();
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

fn hasher_of(list: &[&str]) -> Hasher {
    let mut hasher = Hasher::new();
    for part in list {
        // The length keeps parts apart that run together to the same text.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher
}

/// A checksum of the list and of what follows: when the cursor is of, and its id.
fn encode(list: &Hasher, cursor: &Cursor) -> String {
    let rest = [&cursor.at_us.to_be_bytes(), cursor.id.as_bytes()].concat();
    let sum = checksum(list, &rest).to_be_bytes();
    BASE64_URL_SAFE_NO_PAD.encode([&sum[..], &rest].concat())
}

fn decode(list: &Hasher, token: &str) -> Option<Cursor> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (sum, rest) = bytes.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*sum) != checksum(list, rest) {
        return None;
    }
    let (at_us, id) = rest.split_first_chunk::<8>()?;
    let id = String::from_utf8(id.to_vec()).ok()?;
    if id.chars().any(char::is_control) {
        return None;
    }
    Some(Cursor { at_us: i64::from_be_bytes(*at_us), id })
}

fn checksum(list: &Hasher, rest: &[u8]) -> u32 {
    let mut hasher = list.clone();
    hasher.update(rest);
    hasher.finalize()
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
        let of_another_list = encode(&hasher_of(&["keys", "other"]), &Cursor::by_id("x"));
        // No id holds one, and Postgres keeps none in a text.
        let with_a_nul = encode(&hasher_of(&["keys", "default"]), &Cursor::by_id("x\0"));
        for token in ["!", "AAAA", "é", &of_another_list, "' OR 1=1 --", &with_a_nul] {
            assert!(parse(1, token).is_err(), "{token}");
        }
    }

    #[test]
    fn a_token_that_was_cut_or_changed_is_refused() {
        let token = encode(&hasher_of(&["keys", "default"]), &Cursor::by_id("1234 5678"));
        assert!(parse(1, &token).is_ok());
        for at in 0..token.len() {
            assert!(at == 0 || parse(1, &token[..at]).is_err(), "cut at {at}");
            for letter in ["A", "B", "z", "_"] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, letter);
                assert!(changed == token || parse(1, &changed).is_err(), "{letter} at {at}");
            }
        }
    }
}
