//! A table of texts: aligned, coloured for a terminal, and as wide as it. Pure.

use anstyle::Style;

use super::terminal::visible;

/// Between two columns.
const GAP: &str = "  ";

/// A column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub title: &'static str,
    /// Those with the highest number are left out first if the table is too wide. 0 stays.
    pub rank: u8,
}

/// A cell.
#[derive(Clone, Default)]
pub(super) struct Cell {
    pub text: String,
    pub style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

/// The lines of the table, titles first. `width`: of the terminal, in characters; `None`: as wide as the texts are.
pub(super) fn lines(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>) -> Vec<String> {
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| rows.iter().map(|row| length(&row[index].text)).fold(length(column.title), usize::max))
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let total = |shown: &[usize]| {
        shown.iter().map(|index| widths[*index]).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
    };
    if let Some(width) = width {
        while total(&shown) > width
            && let Some(rank) = shown.iter().map(|index| columns[*index].rank).filter(|rank| *rank > 0).max()
        {
            shown.retain(|index| columns[*index].rank != rank);
        }
    }
    // What is still too wide is taken from the first column, down to a readable rest.
    let too_wide = width.map_or(0, |width| total(&shown).saturating_sub(width));
    let width_of = |index: usize| match index {
        0 => widths[0].saturating_sub(too_wide).max(8.min(widths[0])),
        index => widths[index],
    };
    let line = |cells: &dyn Fn(usize) -> Cell| {
        let mut line = String::new();
        for (place, &index) in shown.iter().enumerate() {
            let Cell { text, style } = cells(index);
            let text = cut(&one_line(&text), width_of(index));
            let is_last = place + 1 == shown.len();
            let padding = if is_last { 0 } else { width_of(index) - length(&text) + GAP.len() };
            line.extend([style.render().to_string(), text, style.render_reset().to_string(), " ".repeat(padding)]);
        }
        line
    };
    let titles = line(&|index| Cell { text: columns[index].title.to_owned(), style: Style::new().bold() });
    std::iter::once(titles).chain(rows.iter().map(|row| line(&|index| row[index].clone()))).collect()
}

/// The text without what a terminal would obey: others may have written it.
fn one_line(text: &str) -> String {
    visible(text).replace('\n', " ")
}

/// The text, or its two ends with `…` between them: names often differ at the end.
fn cut(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return text.to_owned();
    }
    let end = width.saturating_sub(1) * 2 / 3;
    let start = width.saturating_sub(1) - end;
    characters[..start].iter().chain(['…'].iter()).chain(&characters[characters.len() - end..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "SECRET", rank: 0 },
        Column { title: "PROVIDER", rank: 1 },
        Column { title: "STATE", rank: 0 },
    ];

    #[test]
    fn a_text_of_others_does_not_reach_the_terminal_as_a_command() {
        let row = ["a\u{1b}]0;x\u{7}", "b\u{202e}c", "d\ne"].map(|text| Cell::from(text.to_owned())).to_vec();
        let lines = lines(&COLUMNS, &[row], None);
        assert_eq!(anstream::adapter::strip_str(&lines[1]).to_string(), "a?]0;x?  b?c       d e");
    }

    #[test]
    fn columns_are_aligned_and_left_out_where_the_terminal_is_narrow() {
        let row = |cells: [&str; 3]| cells.map(|text| Cell::from(text.to_owned())).to_vec();
        let rows = [row(["myapp/prod/a", "xero", "fresh"]), row(["b", "quickbooks", "needs consent"])];
        let plain = |width| {
            let lines = lines(&COLUMNS, &rows, width);
            lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect::<Vec<_>>()
        };
        let all = [
            "SECRET        PROVIDER    STATE",
            "myapp/prod/a  xero        fresh",
            "b             quickbooks  needs consent",
        ];
        assert_eq!(plain(None), all);
        assert_eq!(plain(Some(39)), all);
        let narrow = ["SECRET        STATE", "myapp/prod/a  fresh", "b             needs consent"];
        assert_eq!(plain(Some(38)), narrow);
        assert_eq!(plain(Some(27)), narrow);
        assert_eq!(plain(Some(25)), ["SECRET      STATE", "mya…prod/a  fresh", "b           needs consent"]);
        assert_eq!(plain(Some(1)), ["SECRET    STATE", "mya…od/a  fresh", "b         needs consent"]);
    }
}
