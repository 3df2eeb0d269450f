//! Texts of others, shown so that no terminal obeys them and no reader of lines is misled.

/// Whether a character does something else than to be seen: control characters, further ends of
/// lines (Unicode, section 5.8), those that turn the direction of a text (UAX #9), and those that take
/// no room and join no letters, so that two texts look alike.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// Writes a character as JSON has it. None of the unsafe ones needs more than four digits.
pub fn escape(c: char, out: &mut String) {
    out.push_str(&format!("\\u{:04x}", u32::from(c)));
}

/// JSON with what is left unsafe in its texts written out: the same values.
#[must_use]
pub fn safe_json(json: String) -> String {
    // Between texts there are ends of lines, within them none.
    let is_left = |c: char| c != '\n' && is_unsafe(c);
    if !json.contains(is_left) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_left(c) { escape(c, &mut safe) } else { safe.push(c) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_values() {
        let text =
            "a\u{7f}\u{9b}31m\u{2028}\u{202e}\u{2066}\u{1b}\n用户\u{200b}\u{feff}\u{61c}\"\\";
        let json = serde_json::json!({ "a": [text], "b": 1 });
        for written in [json.to_string(), format!("{json:#}")] {
            let safe = safe_json(written);
            assert!(!safe.contains(|c| c != '\n' && is_unsafe(c)), "{safe}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("json"), json);
        }
    }
}
