//! What answers say of limits, in the headers the operator chose.

use std::str::FromStr;

use smallvec::SmallVec;

use crate::limits::{Counted, Standing, Standings};

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
        match self.draft {
            Some(Draft::V10) => put_lists(standings, &mut put),
            Some(Draft::V06) => {
                let mut policies = Text::new();
                for (standing, window, _) in in_windows(standings) {
                    separate(&mut policies);
                    put_number(&mut policies, standing.quota);
                    put_parameter(&mut policies, b";w=", window.into());
                }
                if !policies.is_empty() {
                    put(b"ratelimit-policy", &policies);
                }
                let names = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
                put_tightest(standings, names, &mut put);
            }
            None => {}
        }
        if self.legacy {
            let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
            put_tightest(standings, names, &mut put);
        }
    }
}

/// Those of so much in a time, with their windows and resets: others can't be told without names.
fn in_windows(standings: &Standings) -> impl Iterator<Item = (&Standing, u32, u32)> {
    standings.iter().filter_map(|standing| Some((standing, standing.window?, standing.reset?)))
}

/// The one a client meets first.
fn put_tightest(standings: &Standings, names: [&str; 3], put: &mut impl FnMut(&[u8], &[u8])) {
    let tightest = in_windows(standings)
        .min_by_key(|(standing, _, reset)| (standing.remaining, u32::MAX - reset));
    let Some((standing, _, reset)) = tightest else { return };
    for (name, value) in names.into_iter().zip([standing.quota, standing.remaining, reset.into()]) {
        put(name.as_bytes(), itoa::Buffer::new().format(value).as_bytes());
    }
}

/// Holds what a request with two limits is told, and more where there are more.
type Text = SmallVec<[u8; 128]>;

/// draft-ietf-httpapi-ratelimit-headers-10 sections 3 and 4.
fn put_lists(standings: &Standings, put: &mut impl FnMut(&[u8], &[u8])) {
    let (mut policies, mut states) = (Text::new(), Text::new());
    for Standing { label, quota, counts, window, remaining, reset } in standings {
        put_name(&mut policies, label.as_str());
        put_parameter(&mut policies, b";q=", *quota);
        if let Some(window) = window {
            put_parameter(&mut policies, b";w=", (*window).into());
        }
        policies.extend_from_slice(match counts {
            Counted::Units => b"",
            Counted::ContentBytes => b";qu=\"content-bytes\"",
            Counted::ConcurrentRequests => b";qu=\"concurrent-requests\"",
        });
        put_name(&mut states, label.as_str());
        put_parameter(&mut states, b";r=", *remaining);
        if let Some(reset) = reset {
            put_parameter(&mut states, b";t=", (*reset).into());
        }
    }
    put(b"ratelimit-policy", &policies);
    put(b"ratelimit", &states);
}

fn put_name(list: &mut Text, name: &str) {
    separate(list);
    list.push(b'"');
    list.extend_from_slice(name.as_bytes());
    list.push(b'"');
}

fn separate(list: &mut Text) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
}

/// As RFC 9651 section 4.1.1.2 writes it; `key` with what stands around it. Not by `format!`, which costs
/// several times as much, for every request.
fn put_parameter(list: &mut Text, key: &[u8], value: u64) {
    list.extend_from_slice(key);
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
        let (key, daily) =
            (standing("key", (100, 60), (7, 56)), standing("daily", (5000, 86_400), (7, 9000)));
        let counts = Counted::ContentBytes;
        let bytes = Standing { counts, ..standing("bytes", (9000, 3600), (8000, 600)) };
        let parallel = Standing {
            counts: Counted::ConcurrentRequests,
            window: None,
            reset: None,
            ..standing("parallel", (9, 0), (2, 0))
        };
        let standings = [key, daily, bytes, parallel];
        let mut shown = String::new();
        for setting in ["draft-10", "draft-06", "x-ratelimit", "draft-10, x-ratelimit", "none"] {
            shown += &format!("# {setting}\n{}", told(setting, &standings));
        }
        assert_eq!(told("draft-10,x-ratelimit", &[]), "");
        insta::assert_snapshot!(shown, @r#"
        # draft-10
        ratelimit-policy: "key";q=100;w=60, "daily";q=5000;w=86400, "bytes";q=9000;w=3600;qu="content-bytes", "parallel";q=9;qu="concurrent-requests"
        ratelimit: "key";r=7;t=56, "daily";r=7;t=9000, "bytes";r=8000;t=600, "parallel";r=2
        # draft-06
        ratelimit-policy: 100;w=60, 5000;w=86400, 9000;w=3600
        ratelimit-limit: 5000
        ratelimit-remaining: 7
        ratelimit-reset: 9000
        # x-ratelimit
        x-ratelimit-limit: 5000
        x-ratelimit-remaining: 7
        x-ratelimit-reset: 9000
        # draft-10, x-ratelimit
        ratelimit-policy: "key";q=100;w=60, "daily";q=5000;w=86400, "bytes";q=9000;w=3600;qu="content-bytes", "parallel";q=9;qu="concurrent-requests"
        ratelimit: "key";r=7;t=56, "daily";r=7;t=9000, "bytes";r=8000;t=600, "parallel";r=2
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
