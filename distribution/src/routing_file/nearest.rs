//! Which known word was probably meant.

/// How many words are listed when none is near: the keys of any section.
const LISTED_MAX: usize = 16;

/// A hint for who wrote `word` where one of `known` was expected.
pub(super) fn hint<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.collect();
    if let Some(near) = nearest(word, known.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    if known.is_empty() || known.len() > LISTED_MAX {
        return None;
    }
    let listed: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    Some(format!("known: {}", listed.join(", ")))
}

/// The nearest of `known`, the first among equals, if it is near enough: a third of the letters may be wrong.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word.to_lowercase().chars().take(100).collect();
    let distances = known.map(|known| (distance(&word, &known.to_lowercase()), known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    let length = word.len().max(near.chars().count());
    (distance <= (length / 3).max(1) && distance < length).then_some(near)
}

/// How many letters must be inserted, removed, replaced or exchanged with the next to make one word of the other.
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    // Three rows of the usual table: `rows[i][j]` turns the first `i` letters of `left` into the first `j` of `right`.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut cost = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let exchanged = i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b;
            if exchanged {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposes_what_is_near_and_lists_what_is_few() {
        let near = |word| hint(word, ["source", "amount", "utm_source"].into_iter());
        assert_eq!(near("sourse").as_deref(), Some("did you mean `source`?"));
        assert_eq!(near("Amuont").as_deref(), Some("did you mean `amount`?"));
        assert_eq!(near("colour").as_deref(), Some("known: `source`, `amount`, `utm_source`"));
        assert_eq!(hint("x", ["y"].into_iter()).as_deref(), Some("known: `y`"));
        assert_eq!(hint("x", [].into_iter()), None);
        assert_eq!(hint("петрв", ["петров"].into_iter()).as_deref(), Some("did you mean `петров`?"));
    }

    #[test]
    fn counts_the_letters_that_differ() {
        let cases = [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("ab", "ba", 1), ("kitten", "sitting", 3)];
        for (left, right, expected) in cases {
            let left: Vec<char> = left.chars().collect();
            assert_eq!(distance(&left, right), expected, "{right}");
        }
    }
}
