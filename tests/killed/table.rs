//! Prints tables to the output of the tests.

use std::io::Write;

/// Prints rows under a title, with aligned columns. It writes to stdout directly: the output of the print macros is captured when a
/// test passes.
pub fn print(title: &str, header: &[&str], rows: &[Vec<String>]) {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = format!("\n{title}\n\n");
    for row in [&header].into_iter().chain(rows) {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes()).expect("stdout");
}
