//! How what a rule expects is compared with what a lead holds.
//!
//! Texts compare without case and outer blanks. A text counts as a number only when it is written as a plain one, so
//! that a phone (`+7900`, `0800`) or a code (`1e5`) never equals a number by accident.

use rust_decimal::Decimal;

/// The form in which two texts are compared: lower case, no blanks around.
pub(crate) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

/// The number that `text` writes: digits, perhaps with `-` in front and a fraction. `None` for anything else (a `+`,
/// an exponent, a zero in front) and for what has more digits than can be held exactly, about 28.
pub(crate) fn number(text: &str) -> Option<Decimal> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if digits(whole) && digits(fraction) && !leading_zero { Decimal::from_str_exact(text).ok() } else { None }
}

/// The number in a field's text: a plain one, or an amount of money as custom fields hold it, `1000|USD`.
pub(crate) fn number_in_field(text: &str) -> Option<Decimal> {
    let text = text.trim();
    let currency = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    match text.split_once('|') {
        Some((amount, code)) if currency(code) => number(amount),
        _ => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_plainly() {
        for text in ["0", "-1", "12.50", "0.5", "79001234567"] {
            assert_eq!(number(text), text.parse().ok(), "{text}");
        }
        for text in ["", "-", ".5", "5.", "+5", "007", "1e5", "1_000", "1 000", "0x1F", "٣", "--1", "1.2.3"]
        {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(number(&"9".repeat(40)), None);
        assert_eq!(number(&format!("0.{}", "1".repeat(40))), None);
    }

    #[test]
    fn money_is_a_number() {
        assert_eq!(number_in_field(" 1000.50|USD "), Some(Decimal::new(100_050, 2)));
        assert_eq!(number_in_field("1000|2000"), None);
    }
}
