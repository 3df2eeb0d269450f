//! Takes secrets out of bodies, on the collector's thread: nothing reaches the disk before.
//!
//! A body is read as JSON from end to end, and written anew from what was read without what the
//! paths lead to. So however it was written (escapes, a member twice), what is written out is what
//! was looked at. Where that can't be done nothing is recorded.

use std::borrow::Cow;

use fastgate::model::{JsonPath, Selector, Step};
use serde_json::Value;

use crate::recorded::{Body, Omitted, REDACTED};

/// What is recorded of a body.
pub(super) fn text<'a>(body: &Body<'a>, paths: &[JsonPath]) -> Result<Cow<'a, str>, Omitted> {
    let bytes = body.bytes?;
    if paths.is_empty() {
        return Ok(readable(bytes, body.is_cut));
    }
    if body.is_cut {
        return Err(Omitted::Truncated);
    }
    let mut value = serde_json::from_slice(bytes).map_err(|_| Omitted::NotJson)?;
    for path in paths {
        redact(&mut value, path.steps(), 1);
    }
    Ok(value.to_string().into())
}

/// As text; a character that was cut through at the end is left out.
fn readable(bytes: &[u8], is_cut: bool) -> Cow<'_, str> {
    let end = match str::from_utf8(bytes) {
        Err(fault) if is_cut && fault.error_len().is_none() => fault.valid_up_to(),
        _ => bytes.len(),
    };
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes))
}

/// Takes out what steps lead to. In `at` a bit is set for each step that may be the next one from
/// here, of which a deep one leaves several: so every value is visited once, whatever the path.
/// The reader of JSON has bounded how deep this goes.
fn redact(value: &mut Value, steps: &[Step], at: u64) {
    let end = 1 << steps.len();
    let below = |is_chosen: &dyn Fn(&Selector) -> bool| {
        let mut next = 0;
        for (n, step) in steps.iter().enumerate().filter(|(n, _)| at & (1 << n) != 0) {
            if step.is_deep {
                next |= 1 << n;
            }
            if is_chosen(&step.to) {
                next |= 1 << (n + 1);
            }
        }
        next
    };
    let go = |child: &mut Value, next: u64| {
        if next & end != 0 {
            *child = Value::from(REDACTED);
        } else if next != 0 {
            redact(child, steps, next);
        }
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let next = below(&|to| match to {
                    Selector::Name(asked) => **asked == **name,
                    Selector::Every => true,
                    Selector::Index(_) => false,
                });
                go(member, next);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter_mut().enumerate() {
                let next = below(&|to| match to {
                    Selector::Index(asked) => *asked == place,
                    Selector::Every => true,
                    Selector::Name(_) => false,
                });
                go(item, next);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use fastgate::{admin::v1, model::Recording};
    use proptest::prelude::*;

    use super::*;

    fn paths(texts: &[&str]) -> Vec<JsonPath> {
        let redact = texts.iter().map(|text| (*text).to_owned()).collect();
        let wire = v1::Recording { request_body_bytes: 1, redact, ..v1::Recording::default() };
        Recording::parse(&wire).expect("paths").redact
    }

    fn body(bytes: &[u8], is_cut: bool) -> Body<'_> {
        Body { content_type: b"application/json", bytes: Ok(bytes), is_cut }
    }

    fn redacted(json: &str, texts: &[&str]) -> String {
        text(&body(json.as_bytes(), false), &paths(texts)).expect("JSON").replace(REDACTED, "-")
    }

    #[test]
    fn what_paths_lead_to_is_taken_out() {
        for (path, before, after) in [
            ("$.a", r#"{"a":1,"b":{"a":2}}"#, r#"{"a":"-","b":{"a":2}}"#),
            ("$.a.b", r#"{"a":{"b":{"c":1}},"b":2}"#, r#"{"a":{"b":"-"},"b":2}"#),
            ("$.a", r#"[{"a":1}]"#, r#"[{"a":1}]"#),
            (
                "$.i[*].c",
                r#"{"i":[{"c":1},{"d":2},{"c":[3]}]}"#,
                r#"{"i":[{"c":"-"},{"d":2},{"c":"-"}]}"#,
            ),
            ("$[1]", "[1,2,3]", r#"[1,"-",3]"#),
            ("$[1]", r#"{"1":2}"#, r#"{"1":2}"#),
            (
                "$..t",
                r#"{"t":1,"a":[{"t":2},{"b":{"t":{"t":3}}}]}"#,
                r#"{"a":[{"t":"-"},{"b":{"t":"-"}}],"t":"-"}"#,
            ),
            (
                "$..a.b",
                r#"{"a":{"a":{"b":1},"b":2},"b":3}"#,
                r#"{"a":{"a":{"b":"-"},"b":"-"},"b":3}"#,
            ),
            ("$..a..b", r#"{"a":{"c":{"b":1}},"b":2}"#, r#"{"a":{"c":{"b":"-"}},"b":2}"#),
            ("$.*", r#"{"a":1,"b":[2]}"#, r#"{"a":"-","b":"-"}"#),
            ("$..[0]", r#"{"a":[1,[2,3]]}"#, r#"{"a":["-",["-",3]]}"#),
            ("$['a b']", r#"{"a b":1}"#, r#"{"a b":"-"}"#),
            // However it is written, and however often.
            ("$.password", r#"{"pass\u0077ord":1}"#, r#"{"password":"-"}"#),
            ("$.a", r#"{"a":"first","a":"second"}"#, r#"{"a":"-"}"#),
        ] {
            assert_eq!(redacted(before, &[path]), after, "{path}");
        }
        let twice = redacted(r#"{"a":{"b":1,"c":2}}"#, &["$.a.b", "$.a", "$.a.c"]);
        assert_eq!(twice, r#"{"a":"-"}"#);
    }

    #[test]
    fn what_is_no_whole_json_is_recorded_only_where_nothing_is_secret() {
        let paths = paths(&["$.a"]);
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for (bytes, is_cut, why) in [
            (&b"{\"a\":1"[..], true, Omitted::Truncated),
            // Whole by chance: what is behind it may be anything.
            (b"{\"a\":1}", true, Omitted::Truncated),
            (b"{\"a\":1", false, Omitted::NotJson),
            (b"a=1", false, Omitted::NotJson),
            (b"{\"a\":1} {\"a\":2}", false, Omitted::NotJson),
            (b"\xff", false, Omitted::NotJson),
            (deep.as_bytes(), false, Omitted::NotJson),
        ] {
            assert_eq!(text(&body(bytes, is_cut), &paths), Err(why));
        }
        for (bytes, is_cut, kept) in [
            (&b"{\"a\":1"[..], true, "{\"a\":1"),
            ("用户".as_bytes(), false, "用户"),
            (&"用户".as_bytes()[..5], true, "用"),
            (&"用户".as_bytes()[..5], false, "用\u{fffd}"),
            (b"a\xffb", true, "a\u{fffd}b"),
        ] {
            assert_eq!(text(&body(bytes, is_cut), &[]).expect("text"), kept);
        }
    }

    const SECRET: &str = "s3cr3t";

    /// JSON in which the secret stands behind some of the names that are taken out.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\用]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 5, |inner| {
            let secret = prop_oneof![
                Just(Value::from(SECRET)),
                inner
                    .clone()
                    .prop_map(|other| serde_json::json!([SECRET, { "x": SECRET, "y": other }])),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..5)
                    .prop_map(|members| members.into_iter().collect()),
                prop_oneof![Just("token"), Just("card no"), Just("密")].prop_flat_map(
                    move |name| secret
                        .clone()
                        .prop_map(move |value| serde_json::json!({ name: value }))
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_secret_gets_through_wherever_a_body_is_cut(
            json in json(),
            pretty: bool,
            limit in 1_usize..400,
            piece in 1_usize..40,
            breaks_off: bool,
        ) {
            let sent = if pretty { format!("{json:#}") } else { json.to_string() };
            let paths = paths(&["$..token", "$..['card no']", "$..密"]);
            let room = crate::recorded::Room::default();
            let mut tap = crate::recorded::Tap::keeping(limit, &room);
            sent.as_bytes().chunks(piece).for_each(|piece| tap.see(piece));
            if !breaks_off {
                tap.end();
            }
            let body = tap.body().expect("a body");
            let kept = text(&body, &paths);
            prop_assert!(!format!("{kept:?}").contains(SECRET), "{kept:?}");
            prop_assert_eq!(kept.is_ok(), !breaks_off && sent.len() <= limit);
            // As it would be if only what was cut off were sent.
            for end in (0..=sent.len()).filter(|end| sent.is_char_boundary(*end)) {
                let kept = text(&self::body(&sent.as_bytes()[..end], false), &paths);
                prop_assert!(!format!("{kept:?}").contains(SECRET), "{kept:?}");
            }
        }
    }
}
