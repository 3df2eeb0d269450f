//! Permissions: what keys hold and routes ask for.

use std::fmt;

use super::bounds;

/// A permission a key holds: a name, `*`, or a name with a trailing `:*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission(Box<str>);

/// A permission a route asks for: a name without wildcards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequiredPermission(Box<str>);

impl Permission {
    /// Reads a permission of a key.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text != "*" {
            check_name(text.strip_suffix(":*").unwrap_or(text))?;
        }
        Ok(Self(text.into()))
    }
}

impl RequiredPermission {
    /// Reads a permission of a route.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// Whether a key that holds this permission has enough. `orders:*` covers `orders:read` and
    /// `orders:read:all`, but not `orders`.
    fn is_covered_by(&self, held: &str) -> bool {
        match held.strip_suffix('*') {
            Some(stem) => self.0.len() > stem.len() && self.0.starts_with(stem),
            None => *self.0 == *held,
        }
    }
}

impl fmt::Display for RequiredPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a key that holds `held` may use a route that asks for all of `required`.
pub fn allows<'a>(
    held: impl Iterator<Item = &'a str> + Clone,
    required: &[RequiredPermission],
) -> bool {
    required.iter().all(|asked| held.clone().any(|permission| asked.is_covered_by(permission)))
}

fn check_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty: give a name such as 'orders:read'".into());
    }
    if text.len() > bounds::TEXT {
        return Err(format!("is longer than {} characters: shorten it", bounds::TEXT));
    }
    if text.contains('*') {
        return Err("may hold '*' only in a key's permission, alone or as a trailing ':*'".into());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":_-./".contains(&b);
    if !text.bytes().all(allowed) {
        return Err("must consist of letters, digits, ':', '_', '-', '.' and '/'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_is_below_them() {
        for (held, asked, covered) in [
            ("orders:read", "orders:read", true),
            ("orders:read", "orders:write", false),
            ("orders:read", "orders:read:all", false),
            ("orders:*", "orders:read", true),
            ("orders:*", "orders:read:all", true),
            ("orders:*", "orders", false),
            ("orders:*", "ordersx:read", false),
            ("*", "orders", true),
        ] {
            Permission::parse(held).expect("a permission");
            let asked = RequiredPermission::parse(asked).expect("a permission");
            assert_eq!(asked.is_covered_by(held), covered, "{held:?} {asked:?}");
        }
    }

    #[test]
    fn a_route_asks_for_all_and_none_is_enough_for_none() {
        let held = ["a:*"].into_iter();
        let none = [].into_iter();
        let ask = |names: &[&str]| -> Vec<_> {
            names.iter().map(|n| RequiredPermission::parse(n).expect("a permission")).collect()
        };
        assert!(allows(held.clone(), &ask(&["a:1", "a:2"])));
        assert!(!allows(held, &ask(&["a:1", "b:1"])));
        assert!(allows(none.clone(), &[]));
        assert!(!allows(none, &ask(&["a"])));
    }

    #[test]
    fn bad_permissions_are_refused() {
        for bad in ["", "a b", "a*", "*:a", "a:**", "'; DROP TABLE keys;--", "\u{7528}", "a\n"] {
            assert!(Permission::parse(bad).is_err(), "{bad:?}");
        }
        assert!(RequiredPermission::parse("a:*").is_err());
    }
}
