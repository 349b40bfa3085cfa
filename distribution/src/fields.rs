//! Which field of a lead a word in the routing file means.
//!
//! A word is a short name of the file's own (`fields:`), else one of the built-in ones, else the portal's code itself,
//! which is written in capitals.

/// The short names every routing file knows, with the portal's codes.
const BUILT_IN: [(&str, &str); 14] = [
    ("source", "SOURCE_ID"),
    ("amount", "OPPORTUNITY"),
    ("status", "STATUS_ID"),
    ("title", "TITLE"),
    ("utm_source", "UTM_SOURCE"),
    ("utm_medium", "UTM_MEDIUM"),
    ("utm_campaign", "UTM_CAMPAIGN"),
    ("utm_content", "UTM_CONTENT"),
    ("utm_term", "UTM_TERM"),
    ("city", "ADDRESS_CITY"),
    ("region", "ADDRESS_REGION"),
    ("country", "ADDRESS_COUNTRY"),
    ("currency", "CURRENCY_ID"),
    ("owner", "ASSIGNED_BY_ID"),
];

/// The code that a built-in short name stands for.
pub(crate) fn built_in(word: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(name, _)| *name == word).map(|(_, code)| *code)
}

/// The built-in short names, to propose the nearest.
pub(crate) fn built_in_names<'n>() -> impl Iterator<Item = &'n str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Whether `word` is a field's code in the portal: `SOURCE_ID`, `UF_CRM_1704817278`.
pub(crate) fn is_code(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
