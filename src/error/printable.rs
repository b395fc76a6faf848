//! Text of other processes that this crate's own messages show.
//!
//! A process chooses its own name and its panic messages. Escape sequences in them must not reach
//! the terminal of another process as part of an error, a table or a prefix. So such text is
//! escaped where it arrives.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |c: char| c.is_control() && !is_kept(c);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            escaped.extend(c.escape_debug());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Escapes all control characters, as `Debug` does.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    escape(name, |_| false)
}

/// Escapes all control characters except newlines and tabs, which lay the text out.
pub(crate) fn text(text: String) -> String {
    match escape(&text, |c| matches!(c, '\n' | '\t')) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

pub(crate) fn deserialize_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|it| name(&it).into_owned())
}

pub(crate) fn deserialize_text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(text)
}

/// Like [`deserialize_text`], for a part of a panic's report that may be missing.
pub(crate) fn deserialize_optional<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(from).map(|it| it.map(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(name("a\x1b[2J\u{9b}1m\r\n\t\0\x7f"), r"a\u{1b}[2J\u{9b}1m\r\n\t\0\u{7f}");
        assert!(matches!(name("ein Näme, \"quoted\" \\ 日本"), Cow::Borrowed(_)));
        assert_eq!(
            text("one\n\ttwo\r\x1b]0;title\x07".into()),
            "one\n\ttwo\\r\\u{1b}]0;title\\u{7}"
        );
    }
}
