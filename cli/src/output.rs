//! What is printed. A reader who has seen enough (`rota versions | head`) is no failure.

use std::io::{self, Write as _};

use serde_json::Value;

/// To stdout.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// One JSON value to stdout.
pub(crate) fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// To stderr, with the command's name in front.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "rota: {text}"));
}

/// Columns of text, all written from the left.
pub(crate) fn text_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let all =
        std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows.iter().cloned());
    let all: Vec<Vec<String>> = all.collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            format!("{cell:<width$}")
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    all.iter().map(line).collect()
}

/// Columns as wide as they must be. The first is written from the left, the others are figures.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let head = line(head.to_vec());
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(rows).collect()
}
