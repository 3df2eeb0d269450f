//! What answers say of limits, in the headers the operator chose.

use std::str::FromStr;

use smallvec::SmallVec;

use crate::limits::{Standing, Standings};

/// Which headers tell clients where their limits stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitHeaders {
    draft: Option<Draft>,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, which is in seconds from now.
    legacy: bool,
}

/// A version of draft-ietf-httpapi-ratelimit-headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Draft {
    /// `RateLimit-Limit`, `-Remaining` and `-Reset`, and a `RateLimit-Policy` without names.
    V06,
    /// `RateLimit-Policy` and `RateLimit`: lists with an item for each limit.
    V10,
}

impl Default for LimitHeaders {
    fn default() -> Self {
        Self { draft: Some(Draft::V10), legacy: false }
    }
}

impl FromStr for LimitHeaders {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut headers = Self { draft: None, legacy: false };
        for name in text.split(',').map(str::trim).filter(|name| *name != "none") {
            let draft = match name {
                "draft-06" => Draft::V06,
                "draft-10" => Draft::V10,
                "x-ratelimit" => {
                    headers.legacy = true;
                    continue;
                }
                _ => {
                    return Err(format!(
                        "has '{name}': give draft-10, draft-06, x-ratelimit or none"
                    ));
                }
            };
            if headers.draft.replace(draft).is_some() {
                return Err("has two drafts, which mean other things by one name: give one".into());
            }
        }
        Ok(headers)
    }
}

impl LimitHeaders {
    /// Whether anything is told, in place of what an upstream says of its own limits.
    pub(crate) fn tell(self, standings: &Standings) -> bool {
        !standings.is_empty() && (self.draft.is_some() || self.legacy)
    }

    /// Shows each header line.
    pub(crate) fn lines(self, standings: &Standings, mut put: impl FnMut(&[u8], &[u8])) {
        let Some(tightest) = tightest(standings) else { return };
        match self.draft {
            Some(Draft::V10) => put_lists(standings, &mut put),
            Some(Draft::V06) => {
                let mut policies = Text::new();
                for Standing { quota, window, .. } in standings {
                    separate(&mut policies);
                    put_number(&mut policies, *quota);
                    put_parameter(&mut policies, "w", *window);
                }
                put(b"ratelimit-policy", &policies);
                let names = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
                put_one(tightest, names, &mut put);
            }
            None => {}
        }
        if self.legacy {
            let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
            put_one(tightest, names, &mut put);
        }
    }
}

/// The one a client meets first, for headers that tell of a single limit.
fn tightest(standings: &Standings) -> Option<&Standing> {
    standings.iter().min_by_key(|standing| (standing.remaining, u64::MAX - standing.reset))
}

/// Holds what a request with two limits is told, and more where there are more.
type Text = SmallVec<[u8; 128]>;

/// draft-ietf-httpapi-ratelimit-headers-10 sections 3 and 4.
fn put_lists(standings: &Standings, put: &mut impl FnMut(&[u8], &[u8])) {
    let (mut policies, mut states) = (Text::new(), Text::new());
    for Standing { label, quota, window, remaining, reset } in standings {
        for (list, parameters) in [
            (&mut policies, [("q", *quota), ("w", *window)]),
            (&mut states, [("r", *remaining), ("t", *reset)]),
        ] {
            separate(list);
            list.extend_from_slice(b"\"");
            list.extend_from_slice(label.as_str().as_bytes());
            list.extend_from_slice(b"\"");
            parameters.iter().for_each(|(key, value)| put_parameter(list, key, *value));
        }
    }
    put(b"ratelimit-policy", &policies);
    put(b"ratelimit", &states);
}

fn put_one(standing: &Standing, names: [&str; 3], put: &mut impl FnMut(&[u8], &[u8])) {
    let values = [standing.quota, standing.remaining, standing.reset];
    for (name, value) in names.into_iter().zip(values) {
        put(name.as_bytes(), itoa::Buffer::new().format(value).as_bytes());
    }
}

fn separate(list: &mut Text) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
}

/// As RFC 9651 section 4.1.1.2 writes it. Not by `format!`, which costs several times as much, for
/// every request.
fn put_parameter(list: &mut Text, key: &str, value: u64) {
    list.extend_from_slice(b";");
    list.extend_from_slice(key.as_bytes());
    list.extend_from_slice(b"=");
    put_number(list, value);
}

fn put_number(list: &mut Text, value: u64) {
    list.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::standing;

    fn told(setting: &str, standings: &[Standing]) -> String {
        let headers: LimitHeaders = setting.parse().expect("valid");
        let standings: Standings = standings.iter().cloned().collect();
        let mut text = String::new();
        if headers.tell(&standings) {
            headers.lines(&standings, |name, value| {
                let [name, value] = [name, value].map(String::from_utf8_lossy);
                text += &format!("{name}: {value}\n");
            });
        }
        text
    }

    #[test]
    fn limits_are_told_as_the_operator_chose() {
        let standings =
            [standing("key", (100, 60), (7, 56)), standing("daily", (5000, 86_400), (7, 9000))];
        let mut shown = String::new();
        for setting in ["draft-10", "draft-06", "x-ratelimit", "draft-10, x-ratelimit", "none"] {
            shown += &format!("# {setting}\n{}", told(setting, &standings));
        }
        assert_eq!(told("draft-10,x-ratelimit", &[]), "");
        insta::assert_snapshot!(shown, @r#"
        # draft-10
        ratelimit-policy: "key";q=100;w=60, "daily";q=5000;w=86400
        ratelimit: "key";r=7;t=56, "daily";r=7;t=9000
        # draft-06
        ratelimit-policy: 100;w=60, 5000;w=86400
        ratelimit-limit: 5000
        ratelimit-remaining: 7
        ratelimit-reset: 9000
        # x-ratelimit
        x-ratelimit-limit: 5000
        x-ratelimit-remaining: 7
        x-ratelimit-reset: 9000
        # draft-10, x-ratelimit
        ratelimit-policy: "key";q=100;w=60, "daily";q=5000;w=86400
        ratelimit: "key";r=7;t=56, "daily";r=7;t=9000
        x-ratelimit-limit: 5000
        x-ratelimit-remaining: 7
        x-ratelimit-reset: 9000
        # none
        "#);
    }

    #[test]
    fn what_is_no_setting_is_told() {
        for (text, fault) in [
            ("", "has '': give draft-10, draft-06, x-ratelimit or none"),
            ("draft-9", "has 'draft-9': give draft-10, draft-06, x-ratelimit or none"),
            ("draft-06,draft-10", "has two drafts, which mean other things by one name: give one"),
        ] {
            assert_eq!(text.parse::<LimitHeaders>(), Err(fault.to_owned()), "{text}");
        }
    }
}
