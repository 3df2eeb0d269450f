//! A route that kills, for tests of what a node does about it. It is there in builds with debug assertions
//! alone, and only where `FASTGATE_TEST_FATAL_ROUTE` names one: `HOW@WHEN:ROUTE`, such as
//! `panic@asked:r1`. HOW is `panic` or `abort`; WHEN is `taken` (config that has it is taken into use) or
//! `asked` (a request matches it).

/// When it kills.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Taken,
    Asked,
}

/// Kills if the route that is set is among these.
#[cfg(not(debug_assertions))]
pub(crate) fn kill(_: When, _: impl FnOnce(&str) -> bool) {}

/// Kills if the route that is set is among these.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what it is for")]
pub(crate) fn kill(when: When, is_among: impl FnOnce(&str) -> bool) {
    use std::sync::OnceLock;

    static SET: OnceLock<Option<(bool, When, String)>> = OnceLock::new();
    let set = SET.get_or_init(|| parse(&std::env::var("FASTGATE_TEST_FATAL_ROUTE").ok()?));
    let Some((aborts, _, route)) = set.as_ref().filter(|(_, at, _)| *at == when) else { return };
    if !is_among(route) {
        return;
    }
    if *aborts {
        std::process::abort();
    }
    panic!("the test asks for it: route {route}");
}

#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<(bool, When, String)> {
    let (kind, route) = text.split_once(':')?;
    let (how, when) = kind.split_once('@')?;
    let when = if when == "taken" { When::Taken } else { When::Asked };
    Some((how == "abort", when, route.to_owned()))
}
