//! Percent-encoding, strictly: what is not UTF-8 is refused, not repaired.

/// The text of a path segment.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        // from_str_radix would take a sign.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// The pairs of a query, `+` standing for a space; `None` for one that can't be decoded.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Option<(String, String)>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf_8_is_decoded() {
        for (text, decoded) in [
            ("plain", Some("plain")),
            ("a%20b%2Fc", Some("a b/c")),
            ("caf%C3%A9", Some("café")),
            ("+", Some("+")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn a_query_is_split_before_it_is_decoded() {
        let found: Option<Vec<_>> = pairs("a=1%262&b=x+y&&c").collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, Some(vec![pair("a", "1&2"), pair("b", "x y"), pair("c", "")]));
        assert_eq!(pairs("a=%ff").collect::<Option<Vec<_>>>(), None);
    }
}
