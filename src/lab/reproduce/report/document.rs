//! A document of a few kinds of blocks, as Markdown and as one HTML file.

use std::fmt::Write;

use serde::Serialize;

/// A part of a document. Texts may hold `code` and **bold** words.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// A heading of level 1 to 3.
    Heading(usize, String),
    /// A paragraph.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// A table; the first column holds names, the others numbers.
    Table {
        /// Heads of its columns.
        head: Vec<String>,
        /// Its rows.
        rows: Vec<Vec<String>>,
    },
    /// A picture.
    Figure {
        /// Its file's name, without an ending.
        name: String,
        /// What it shows.
        caption: String,
        /// SVG text.
        #[serde(skip)]
        svg: String,
    },
}

/// The folder of the pictures beside a Markdown file.
pub const FIGURES: &str = "figures";

/// As Markdown; pictures are links into [`FIGURES`].
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    for block in blocks {
        match block {
            Block::Heading(level, text) => _ = writeln!(out, "{} {text}", "#".repeat(*level)),
            Block::Text(text) => _ = writeln!(out, "{text}"),
            Block::List(items) => items.iter().for_each(|item| _ = writeln!(out, "- {item}")),
            Block::Table { head, rows } => {
                out += &row(head);
                out += &format!("|---|{}\n", "---:|".repeat(head.len().saturating_sub(1)));
                rows.iter().for_each(|cells| out += &row(cells));
            }
            Block::Figure { name, caption, .. } => _ = writeln!(out, "![{caption}]({FIGURES}/{name}.svg)"),
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;display:block;overflow-x:auto;margin:1rem 0}\
    th,td{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
    th:first-child,td:first-child{text-align:left}h2{margin-top:3rem}\
    figure{margin:1.5rem 0}figure svg{max-width:100%;height:auto}figcaption{color:#646464}\
    code{background:#f4f4f4;padding:0 .2em}";

/// As one HTML file with the pictures inside.
pub fn html(title: &str, blocks: &[Block]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n",
        escaped(title)
    );
    let row = |kind: &str, cells: &[String]| {
        let cells = cells.iter().map(|cell| format!("<{kind}>{}</{kind}>", inline(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    for block in blocks {
        match block {
            Block::Heading(level, text) => _ = writeln!(out, "<h{level}>{}</h{level}>", inline(text)),
            Block::Text(text) => _ = writeln!(out, "<p>{}</p>", inline(text)),
            Block::List(items) => {
                let items = items.iter().map(|item| format!("<li>{}</li>\n", inline(item)));
                _ = writeln!(out, "<ul>\n{}</ul>", items.collect::<String>());
            }
            Block::Table { head, rows } => {
                let rows: String = rows.iter().map(|cells| row("td", cells)).collect();
                _ = writeln!(out, "<table>\n{}{rows}</table>", row("th", head));
            }
            Block::Figure { caption, svg, .. } => {
                let caption = inline(caption);
                _ = writeln!(out, "<figure>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>");
            }
        }
    }
    out + "</body>\n</html>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Escaped, with `code` and **bold** words.
fn inline(text: &str) -> String {
    let between = |text: String, mark: &str, tag: &str| {
        let parts: Vec<&str> = text.split(mark).collect();
        // A mark without its partner stands for itself.
        let paired = (parts.len() - 1) / 2 * 2;
        let mut out = parts[0].to_string();
        for (i, part) in parts.iter().enumerate().skip(1) {
            out += &match (i > paired, i % 2 == 1) {
                (true, _) => mark.to_string(),
                (_, true) => format!("<{tag}>"),
                (_, false) => format!("</{tag}>"),
            };
            out += part;
        }
        out
    };
    between(between(escaped(text), "`", "code"), "**", "strong")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<Block> {
        vec![
            Block::Heading(2, "Title".into()),
            Block::Text("a < b, `code` and **bold**".into()),
            Block::List(vec!["one".into(), "two".into()]),
            Block::Table { head: vec!["a".into(), "b".into()], rows: vec![vec!["x".into(), "1".into()]] },
            Block::Figure { name: "pic".into(), caption: "shows".into(), svg: "<svg></svg>".into() },
        ]
    }

    #[test]
    fn the_same_blocks_in_two_languages() {
        let text = markdown(&blocks());
        assert_eq!(
            text,
            "## Title\n\na < b, `code` and **bold**\n\n- one\n- two\n\n| a | b |\n|---|---:|\n| x | 1 |\n\n\
             ![shows](figures/pic.svg)\n"
        );
        let text = html("A & B", &blocks());
        for part in [
            "<title>A &amp; B</title>",
            "<p>a &lt; b, <code>code</code> and <strong>bold</strong></p>",
            "<li>two</li>",
            "<tr><th>a</th><th>b</th></tr>\n<tr><td>x</td><td>1</td></tr>",
            "<svg></svg>\n<figcaption>shows</figcaption>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_mark_without_its_partner_stands_for_itself() {
        assert_eq!(inline("2 ** 3 and `x"), "2 ** 3 and `x");
        assert_eq!(inline("`a` `b"), "<code>a</code> `b");
    }
}
