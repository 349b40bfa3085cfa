//! How the portal compares phone numbers, and in which spellings one is asked for.
//!
//! The portal finds a number by what is left of it after `NormalizePhone`: digits, without an extension, an international
//! prefix or a Russian `8`. It adds no country code, so `9161234567` is not found by `+7 916 123-45-67`, nor the other way
//! round: both spellings are asked for, where the country is known.
//!
//! Source: the product's own code, `main/tools.php`; page "Find duplicates by communication".

/// Shorter numbers are extensions or mistakes, which many people share.
const SHORTEST: usize = 6;

/// Numbers from this length on may have a prefix.
const WITH_PREFIX: usize = 10;

/// What is left of a number when the portal compares it; `None` of one that is too short to know somebody by.
fn key(phone: &str) -> Option<String> {
    let own = phone.split([';', '#', ',']).next().unwrap_or_default();
    let plus = own.trim_start().starts_with('+');
    let digits: String = own.chars().filter(char::is_ascii_digit).collect();
    if digits.len() < SHORTEST {
        return None;
    }
    if digits.len() < WITH_PREFIX {
        return Some(digits);
    }
    let international = digits.strip_prefix("00").or_else(|| digits.strip_prefix("011"));
    let digits = international.or_else(|| digits.strip_prefix('0')).unwrap_or(&digits);
    // 80, 81 and 82 begin no Russian number.
    let russian = digits.strip_prefix('8').filter(|rest| !plus && !rest.starts_with(['0', '1', '2']));
    Some(russian.map_or_else(|| digits.to_owned(), |rest| format!("7{rest}")))
}

/// The spellings under which somebody with this number may be known: with the country's code and without.
///
/// **Shape**: `+7 916 123-45-67` in the country `7` gives `79161234567` and `9161234567`. None for what is no number.
pub(crate) fn spellings(phone: &str, country_code: Option<&str>) -> Vec<String> {
    let Some(key) = key(phone) else { return Vec::new() };
    let mut spellings = vec![key.clone()];
    if let Some(code) = country_code {
        let national = key.strip_prefix(code).filter(|national| national.len() >= SHORTEST);
        if let Some(national) = national.filter(|_| key.len() >= WITH_PREFIX) {
            spellings.push(national.to_owned());
        } else {
            // Belarus dials 80 where others dial 0.
            let national = key.strip_prefix("80").filter(|_| code == "375").unwrap_or(&key);
            spellings.push(format!("{code}{national}"));
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_asked_for_as_the_portal_knows_them() {
        for (phone, code, expected) in [
            ("+7 (916) 123-45-67", Some("7"), vec!["79161234567", "9161234567"]),
            ("8 916 123 45 67", Some("7"), vec!["79161234567", "9161234567"]),
            ("007 916 123-45-67", Some("7"), vec!["79161234567", "9161234567"]),
            ("9161234567", Some("7"), vec!["9161234567", "79161234567"]),
            ("+7 916 1234567;101", None, vec!["79161234567"]),
            ("+7 916 1234567#101", None, vec!["79161234567"]),
            ("+7 916 1234567,101", None, vec!["79161234567"]),
            ("+49 151 2345678", Some("49"), vec!["491512345678", "1512345678"]),
            ("0151 2345678", Some("49"), vec!["1512345678", "491512345678"]),
            ("80 29 123 45 67", Some("375"), vec!["80291234567", "375291234567"]),
            ("+375 29 123 45 67", Some("375"), vec!["375291234567", "291234567"]),
            // A German number in a Russian office stays one; the second spelling finds nobody.
            ("+49 151 2345678", Some("7"), vec!["491512345678", "7491512345678"]),
            ("+86 131 2345 6789", None, vec!["8613123456789"]),
            ("123456", Some("7"), vec!["123456", "7123456"]),
            ("101", Some("7"), vec![]),
            ("call me", Some("7"), vec![]),
            ("", None, vec![]),
        ] {
            assert_eq!(spellings(phone, code), expected, "{phone} {code:?}");
        }
    }
}
