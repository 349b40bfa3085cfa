//! What documents promise each other: each link within the project leads to a file, and to a heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All documents of the project. Folders that begin with a point, and what is built, are not its own.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && name != "target" {
                documents(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The lines outside blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The anchors of a document's headings, as GitHub makes them: small letters, no punctuation but `-` and `_`, hyphens
/// for spaces, a number behind one that comes again.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        // Of a link only its text is in the heading.
        let mut shown = String::new();
        for part in title.split("](") {
            let behind =
                if shown.is_empty() { part } else { part.split_once(')').map_or(part, |(_, text)| text) };
            shown += behind;
        }
        let kept = shown.trim().to_lowercase();
        let anchor: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let before = times.entry(anchor.clone()).or_default();
        anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

/// The targets of `[text](target)`, but for addresses of the web.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = prose(text).collect();
    // What stands between backticks is shown, not followed. A pair of them is within one paragraph.
    let paragraphs = prose.split(|line| line.trim().is_empty()).map(|lines| lines.join("\n"));
    let followed: Vec<String> =
        paragraphs.map(|text| text.split('`').step_by(2).collect::<Vec<_>>().join("``")).collect();
    let followed = followed.join("\n");
    let targets = followed.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[test]
fn links_between_documents_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut paths = Vec::new();
    documents(&root, &mut paths);
    let mut broken = Vec::new();
    let mut count = 0;
    for path in &paths {
        for link in links(&fs::read_to_string(path).unwrap()) {
            count += 1;
            let (file, anchor) =
                link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let holds = target.exists()
                && anchor.is_none_or(|anchor| {
                    fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor))
                });
            if !holds {
                broken.push(format!("{}: {link}", path.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(count > 0, "there are links");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    let text = "# What to do: `rota.dead`, now?\n```sh\n# no heading\n```\n## Same\n## Same\n### A [link](b.md) & c\n#no";
    let expected = ["what-to-do-rotadead-now", "same", "same-1", "a-link--c"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}

#[test]
fn links_of_the_web_and_in_code_are_left_alone() {
    let text = "[a](b.md#c) [d](https://e) `[f](g)`\n```\n[h](i)\n```\n[j\nk](l) [`m`](n)";
    assert_eq!(links(text), ["b.md#c", "l", "n"]);
}
