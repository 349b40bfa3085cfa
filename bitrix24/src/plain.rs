//! What makes a stranger's text harmless inside a notice: [`plain`].
//!
//! A notice is written in BB code, and a messenger makes links of what looks like an address. Anybody who fills in a web
//! form chooses the title of a lead. They must not be able to place a link or a mention there, to turn the text around,
//! or to hide in it what nobody sees. All links in a notice are built by us.
//!
//! Three steps: [`visible`] leaves what can be seen, [`word`] breaks up what would be read as more than text, and
//! [`shortened`] cuts.

use unicode_properties::{GeneralCategory as Category, UnicodeEmoji, UnicodeGeneralCategory};

/// So many marks may stand upon one letter: more of them run over the lines above and below.
const MARKS_MAX: usize = 2;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// A stranger's text made harmless for a notice, and at most `max_chars` characters long; empty where nothing of it can
/// be seen.
///
/// - `[` and `]` become the full-width `［` and `］`, so that no BB code remains; `#BR#`, which breaks the line, becomes
///   `#BR #`.
/// - A space follows each colon and each dot that a link needs: `https: //acme. test`, `www. acme. test`.
/// - Line breaks and other control characters become spaces, and a run of white space one space.
/// - Characters that nobody sees are left out: those that change the direction, of no width, of format, for private use,
///   unassigned. A joiner inside an emoji stays.
/// - At most two marks stand upon one letter.
/// - What is cut off shows as `…`.
#[must_use]
pub fn plain(text: &str, max_chars: usize) -> String {
    let visible = visible(text);
    let words: Vec<String> = visible.split_whitespace().map(word).collect();
    shortened(&words.join(" "), max_chars)
}

/// The text without what cannot be seen. White space of any kind stays.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    let mut rest = text.chars().filter(|c| *c == ZERO_WIDTH_JOINER || !is_never_seen(*c)).peekable();
    while let Some(c) = rest.next() {
        let before = out.chars().next_back();
        let keep = if c.is_control() {
            out.push(' ');
            false
        } else if c == ZERO_WIDTH_JOINER {
            before.is_some_and(|c| is_emoji(c) || is_selector(c)) && rest.peek().is_some_and(|c| is_emoji(*c))
        } else if is_selector(c) {
            before.is_some_and(UnicodeEmoji::is_emoji_char)
        } else if is_mark(c) {
            marks += 1;
            // A mark without a letter would stand upon our own words.
            marks <= MARKS_MAX && before.is_some_and(|c| c.is_alphanumeric() || is_mark(c))
        } else {
            marks = 0;
            true
        };
        if keep {
            out.push(c);
        }
    }
    out
}

/// Characters without a picture of their own, and those of which nobody can say what they look like.
///
/// Source: the general categories of the Unicode Character Database, and the letters and marks among its
/// `Default_Ignorable_Code_Point`.
fn is_never_seen(c: char) -> bool {
    let by_category = matches!(
        c.general_category(),
        Category::Format | Category::PrivateUse | Category::Unassigned | Category::Surrogate
    );
    by_category
        || matches!(c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            // An empty pattern of Braille.
            | '\u{2800}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

fn is_mark(c: char) -> bool {
    matches!(c.general_category(), Category::NonspacingMark | Category::EnclosingMark)
}

/// Chooses between the picture and the letter of an emoji.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe0e}' | '\u{fe0f}')
}

/// Digits and `#` may become emoji, but are joined to nothing.
fn is_emoji(c: char) -> bool {
    !c.is_ascii() && c.is_emoji_char()
}

/// A word without what a portal or a messenger would read as more than text.
fn word(word: &str) -> String {
    let is_address = is_numeric_address(word);
    let mut out = String::with_capacity(word.len());
    for (at, c) in word.char_indices() {
        let next = word.get(at + c.len_utf8()..).unwrap_or_default();
        match c {
            '[' => out.push('［'),
            ']' => out.push('］'),
            '#' if ends_with(&out, "#BR") => out.push_str(" #"),
            c => out.push(c),
        }
        let before = word.get(..at).unwrap_or_default();
        let joins = match c {
            ':' => next.starts_with(['/', '\\']) || before.ends_with(char::is_alphabetic),
            c if is_dot(c) => {
                before.ends_with(char::is_alphanumeric)
                    && next.starts_with(char::is_alphanumeric)
                    && (is_address || is_label(next) || ends_with(before, "www"))
            }
            _ => false,
        };
        if joins && !next.is_empty() {
            out.push(' ');
        }
    }
    out
}

/// A dot of a host's name, and what browsers take for one. Source: RFC 3490, part 3.1.
fn is_dot(c: char) -> bool {
    matches!(c, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

/// Whether this begins with a part of a host's name that is more than a number.
fn is_label(text: &str) -> bool {
    let label = text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').next().unwrap_or_default();
    label.chars().any(char::is_alphabetic)
}

/// Whether there is an address such as `192.0.2.1` in it. A date has fewer dots.
fn is_numeric_address(word: &str) -> bool {
    word.chars().filter(|c| is_dot(*c)).count() >= 3
}

/// Whether a text ends with this, in capitals or not.
fn ends_with(text: &str, end: &str) -> bool {
    let tail = text.len().checked_sub(end.len()).and_then(|start| text.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// The first characters of a text, with `…` for those that are left out.
pub(crate) fn shortened(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    // Half an emoji.
    if short.ends_with(ZERO_WIDTH_JOINER) {
        short.pop();
    }
    if max_chars > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn becomes(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(plain(text, 100), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_strangers_text_forms_no_tag_and_no_line() {
        becomes(&[
            ("[B]hot[/B]", "［B］hot［/B］"),
            ("one#BR#two#br#three", "one#BR #two#br #three"),
            ("#BR#BR#", "#BR #BR #"),
            ("one\r\n\ttwo\u{0}", "one two"),
            ("Ünïcödé, flat #5", "Ünïcödé, flat #5"),
        ]);
    }

    #[test]
    fn no_messenger_makes_a_link_of_it() {
        becomes(&[
            ("[URL=https://evil.test]Lead 1[/URL]", "［URL=https: //evil. test］Lead 1［/URL］"),
            ("see https://evil.test/a.b?c=d", "see https: //evil. test/a. b?c=d"),
            ("HTTPS://192.0.2.1/", "HTTPS: //192. 0. 2. 1/"),
            ("192.0.2.1", "192. 0. 2. 1"),
            (r"http:\\evil", r"http: \\evil"),
            ("www.1c.test (WWW.2.test)", "www. 1c. test (WWW. 2. test)"),
            ("me@evil.test", "me@evil. test"),
            ("mailto:me tel:+70000000000 Name:value", "mailto: me tel: +70000000000 Name: value"),
            (
                "evil.xn--p1ai почта.рф evil。test evil．test",
                "evil. xn--p1ai почта. рф evil。 test evil． test",
            ),
            ("ht\u{200b}tps:/\u{2060}/evil\u{ad}.te\u{200d}st", "https: //evil. test"),
            (
                "Flat 10:30, 1.5 rooms, 01.12.2026, v1.2. End.",
                "Flat 10:30, 1.5 rooms, 01.12.2026, v1.2. End.",
            ),
            ("Тел.: 5, ждём...", "Тел.: 5, ждём..."),
        ]);
    }

    #[test]
    fn what_nobody_sees_is_left_out() {
        becomes(&[
            ("invoice\u{202e}fdp.exe", "invoicefdp. exe"),
            ("\u{2066}a\u{2069}\u{feff}\u{200f}b\u{e0041}\u{e007f}c\u{e000}d\u{378}e", "abcde"),
            ("\u{3164}\u{115f}\u{2800}\u{200b}\u{34f}\u{fe0f}\u{301}", ""),
            ("\u{a0}\u{2003}\u{3000}\u{2028}", ""),
            // Marks upon nothing.
            ("a \u{301}b", "a b"),
            ("Z\u{335}\u{335}\u{335}\u{335}\u{335}algo", "Z\u{335}\u{335}algo"),
            ("Й Ё é \u{5e9}\u{5c1}\u{5bc}", "Й Ё é \u{5e9}\u{5c1}\u{5bc}"),
        ]);
    }

    #[test]
    fn an_emoji_stays_whole() {
        for emoji in ["👩‍👩‍👧", "🏳️‍🌈", "❤️‍🔥", "👍🏽", "🇩🇪", "1️⃣", "🙋🏽‍♀️"]
        {
            assert_eq!(plain(&format!("{emoji} flat"), 100), format!("{emoji} flat"));
        }
        becomes(&[("\u{200d}👩\u{200d} \u{200d}👩\u{200d}\u{200d}x", "👩 👩x"), ("a\u{fe0f}b", "ab")]);
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(plain("Квартира", 8), "Квартира");
        assert_eq!(plain("Квартира", 5), "Квар…");
        assert_eq!(plain("Квартира", 0), "");
        assert_eq!(plain("👩‍👩‍👧", 3), "👩…");
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(
            text in r"(\[|\]|#|BR|br|B|\n|x|ß|\.|:|/|www|1|\u{200d}|\u{202e}|\u{301}|\u{fe0f}|👩|\PC){0,20}",
            max in 0_usize..30,
        ) {
            let safe = plain(&text, max);
            prop_assert!(!safe.contains(['[', ']', '\n', '\u{202e}']), "{}", safe);
            prop_assert!(!safe.contains(":/"), "{}", safe);
            prop_assert!(!safe.to_ascii_uppercase().contains("#BR#"), "{}", safe);
            prop_assert!(safe.chars().count() <= max);
            let letters: Vec<char> = safe.chars().collect();
            for joined in letters.windows(3) {
                prop_assert!(
                    !(joined[0].is_alphanumeric() && is_dot(joined[1]) && joined[2].is_alphabetic()),
                    "{}", safe
                );
            }
        }

        #[test]
        fn what_is_plain_stays_as_it_is(text in r"(\[|#|BR|x|\.|:|/|www|1|\u{200d}|\u{301}|\u{fe0f}|👩| |\PC){0,20}") {
            let safe = plain(&text, 100);
            prop_assert_eq!(plain(&safe, 100), safe.clone());
        }
    }
}
