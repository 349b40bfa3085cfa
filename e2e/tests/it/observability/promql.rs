//! What a query uses: its selectors, and the labels by which it groups and matches.
//!
//! It reads the words of PromQL, not its grammar: whether a query is right is for Prometheus to say, which is asked for
//! each of them. A word is a metric's name unless it is an operator's, a function's (a bracket or `by` follows), or stands
//! in the list of labels behind `by` and the like. Durations are skipped.
//! **Source:** <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

/// `metric{label="value"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// A name, or the regular expression for names of `{__name__=~"…"}`.
    pub metric: String,
    pub matchers: Vec<Matcher>,
}

/// `label=~"value"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    pub operator: String,
    pub value: String,
}

/// The labels in `by (…)`, `on (…)` and the like, or those that `label_replace` reads, each with the metrics among which
/// they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub labels: Vec<String>,
    pub metrics: Vec<String>,
}

/// All that a query uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub selectors: Vec<Selector>,
    pub labels: Vec<Labels>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

const OPERATORS: [&str; 8] = ["and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"];
const OF_OPERAND: [&str; 2] = ["by", "without"];
const OF_QUERY: [&str; 4] = ["on", "ignoring", "group_left", "group_right"];

/// What `query` uses, or what cannot be understood.
pub fn uses(query: &str) -> Result<Uses, String> {
    let tokens = tokens(query)?;
    let partners = partners(&tokens)?;
    let mut found = Uses::default();
    // Where each metric and each label made by `label_replace` stands.
    let mut metrics: Vec<(usize, String)> = Vec::new();
    let mut made: Vec<(usize, String)> = Vec::new();
    // Lists of labels, and the part of the query from which they come.
    let mut lists: Vec<(Vec<String>, std::ops::Range<usize>)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let bracket = tokens.get(at + 1) == Some(&sign("("));
        match &tokens[at] {
            Token::Word(word) if bracket && (is_in(&OF_OPERAND, word) || is_in(&OF_QUERY, word)) => {
                let end = partners[at + 1];
                let part = if is_in(&OF_QUERY, word) {
                    0..tokens.len()
                } else if tokens.get(end + 1) == Some(&sign("(")) {
                    end + 1..partners[end + 1]
                } else if at > 0 && tokens[at - 1] == sign(")") {
                    partners[at - 1]..at
                } else {
                    return Err(format!("`{word}` groups nothing"));
                };
                lists.push((words(&tokens[at + 2..end]), part));
                at = end;
            }
            Token::Word(word) if bracket => {
                if word == "label_replace" || word == "label_join" {
                    let part = at + 1..partners[at + 1];
                    let (makes, reads) = replaced(&tokens[part.clone()], word == "label_join")?;
                    made.push((at, makes));
                    lists.push((reads, part));
                }
            }
            Token::Word(word) if is_in(&OPERATORS, word) || is_aggregation(tokens.get(at + 1)) => {}
            Token::Word(word) => {
                let (mut matchers, metric) = (Vec::new(), word.clone());
                metrics.push((at, metric.clone()));
                if tokens.get(at + 1) == Some(&sign("{")) {
                    let end = partners[at + 1];
                    matchers = self::matchers(&tokens[at + 2..end])?;
                    at = end;
                }
                found.selectors.push(Selector { metric, matchers });
            }
            Token::Sign(sign) if sign == "{" => {
                let end = partners[at];
                let mut matchers = matchers(&tokens[at + 1..end])?;
                let is_name =
                    |matcher: &Matcher| matcher.label == "__name__" && !matcher.operator.starts_with('!');
                let name = matchers.iter().position(is_name).ok_or("a selector without a name")?;
                let metric = matchers.remove(name).value;
                metrics.push((at, metric.clone()));
                found.selectors.push(Selector { metric, matchers });
                at = end;
            }
            Token::Text(_) | Token::Sign(_) => {}
        }
        at += 1;
    }
    for (mut labels, part) in lists {
        labels.retain(|label| !made.iter().any(|(at, made)| part.contains(at) && made == label));
        let within = metrics.iter().filter(|(at, _)| part.contains(at));
        found.labels.push(Labels { labels, metrics: within.map(|(_, metric)| metric.clone()).collect() });
    }
    Ok(found)
}

/// Whether the next word shows that this one is `sum` or the like, with its labels before what it sums up.
fn is_aggregation(next: Option<&Token>) -> bool {
    matches!(next, Some(Token::Word(next)) if is_in(&OF_OPERAND, next))
}

fn is_in(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn sign(text: &str) -> Token {
    Token::Sign(text.to_owned())
}

fn words(tokens: &[Token]) -> Vec<String> {
    let word = |token: &Token| if let Token::Word(word) = token { Some(word.clone()) } else { None };
    tokens.iter().filter_map(word).collect()
}

/// The label that a `label_replace` or `label_join` makes, and those from which it is made.
fn replaced(tokens: &[Token], join: bool) -> Result<(String, Vec<String>), String> {
    // The arguments of the inner query are texts too, so count from the end of the last inner bracket.
    let inner = tokens.iter().rposition(|token| [")", "}"].map(sign).contains(token)).unwrap_or(0);
    let text = |token: &Token| if let Token::Text(text) = token { Some(text.clone()) } else { None };
    let texts: Vec<String> = tokens[inner..].iter().filter_map(text).collect();
    match texts.as_slice() {
        [makes, _, reads @ ..] if join => Ok((makes.clone(), reads.to_vec())),
        // An empty source is the way to set a label to a fixed text.
        [makes, _, reads, _] => {
            Ok((makes.clone(), Some(reads.clone()).filter(|reads| !reads.is_empty()).into_iter().collect()))
        }
        _ => Err(format!("not the arguments of a replacement: {texts:?}")),
    }
}

fn matchers(tokens: &[Token]) -> Result<Vec<Matcher>, String> {
    let parts = tokens.split(|token| *token == sign(",")).filter(|part| !part.is_empty());
    parts
        .map(|part| match part {
            [Token::Word(label), Token::Sign(operator), Token::Text(value)] => {
                Ok(Matcher { label: label.clone(), operator: operator.clone(), value: value.clone() })
            }
            _ => Err(format!("not a matcher: {part:?}")),
        })
        .collect()
}

/// For each bracket the place of the one that belongs to it; of other tokens their own.
fn partners(tokens: &[Token]) -> Result<Vec<usize>, String> {
    let mut partners: Vec<usize> = (0..tokens.len()).collect();
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Sign(sign) = token else { continue };
        if sign == "(" || sign == "{" {
            open.push(at);
        } else if sign == ")" || sign == "}" {
            let start = open.pop().ok_or("a bracket is closed that was not opened")?;
            (partners[start], partners[at]) = (at, start);
        }
    }
    if open.is_empty() { Ok(partners) } else { Err("a bracket is not closed".to_owned()) }
}

fn tokens(query: &str) -> Result<Vec<Token>, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut tokens = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() => c.len_utf8(),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '[' => rest.find(']').ok_or("a range is not closed")? + 1,
            '"' | '\'' | '`' => {
                let (text, length) = quoted(rest, first)?;
                tokens.push(Token::Text(text));
                length
            }
            // A number or a duration.
            c if c.is_ascii_digit() || c == '.' => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len())
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_owned()));
                length
            }
            c if c.is_ascii_punctuation() => {
                let two = ["=~", "!~", "!=", "==", ">=", "<="].iter().any(|two| rest.starts_with(two));
                let length = if two { 2 } else { 1 };
                tokens.push(sign(&rest[..length]));
                length
            }
            other => return Err(format!("{other:?} is no part of a query")),
        };
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// The text in quotes at the start, and how long it is with them.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((text, at + 1));
        }
        if c == '\\' && quote != '`' {
            match chars.next() {
                Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                Some((_, 'n')) => text.push('\n'),
                other => return Err(format!("an escape that is not used here: {other:?}")),
            }
        } else {
            text.push(c);
        }
    }
    Err("a text is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Labels, Matcher, Selector, uses};

    fn matcher(label: &str, operator: &str, value: &str) -> Matcher {
        Matcher { label: label.into(), operator: operator.into(), value: value.into() }
    }

    fn check(query: &str, selectors: &[(&str, &[Matcher])], labels: &[(&[&str], &[&str])]) {
        let found = uses(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let selectors: Vec<_> = selectors
            .iter()
            .map(|(metric, matchers)| Selector { metric: (*metric).into(), matchers: matchers.to_vec() })
            .collect();
        let labels: Vec<_> = labels
            .iter()
            .map(|(labels, metrics)| Labels { labels: owned(labels), metrics: owned(metrics) })
            .collect();
        assert_eq!((found.selectors, found.labels), (selectors, labels), "{query}");
    }

    #[test]
    fn names_and_labels_are_told_from_everything_else() {
        check(
            "histogram_quantile(0.95, sum by (portal, le) (rate(a_bucket{x=~\"b|c\",y!='d\\'s',}[5m:15s]))) > 1e3 # e",
            &[("a_bucket", &[matcher("x", "=~", "b|c"), matcher("y", "!=", "d's")])],
            &[(&["portal", "le"], &["a_bucket"])],
        );
        check("sum(rate(a[5m])) by (x) / 1h", &[("a", &[])], &[(&["x"], &["a"])]);
        check("max BY (x) (a) OR b offset 5m", &[("a", &[]), ("b", &[])], &[(&["x"], &["a"])]);
        check(
            "a unless on (p) group_left (q) max without (p) (b) == bool Inf",
            &[("a", &[]), ("b", &[])],
            &[(&["p"], &["a", "b"]), (&["q"], &["a", "b"]), (&["p"], &["b"])],
        );
        check("{__name__=~\"a_.+\",x=\"y\"}", &[("a_.+", &[matcher("x", "=", "y")])], &[]);
        check("time() - process_start_time_seconds", &[("process_start_time_seconds", &[])], &[]);
    }

    #[test]
    fn a_label_that_the_query_makes_itself_is_not_looked_for() {
        check(
            "max by (portal) (label_replace(max by (queue) (m{queue=~\".+[.]x\"}), \"portal\", \"$1\", \"queue\", \"(.+)\"))",
            &[("m", &[matcher("queue", "=~", ".+[.]x")])],
            &[(&[], &["m"]), (&["queue"], &["m"]), (&["queue"], &["m"])],
        );
        check("label_replace(a, \"alarm\", \"disk\", \"\", \"\")", &[("a", &[])], &[(&[], &["a"])]);
    }

    #[test]
    fn what_it_does_not_understand_is_an_error() {
        for query in
            ["{x=\"y\"}", "{__name__!=\"a\"}", "a{x=}", "sum(a", "a)", "a{x=\"y}", "a[5m", "$portal + ä"]
        {
            assert!(uses(query).is_err(), "{query}");
        }
    }
}
