//! A document made of a few kinds of blocks, as Markdown and as one self-contained HTML file.

use std::fmt::Write;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html as commonmark};
use serde::Serialize;

/// A part of a document. Texts are Markdown.
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
        /// Column headings.
        head: Vec<String>,
        /// Rows of cells.
        rows: Vec<Vec<String>>,
    },
    /// A picture.
    Figure {
        /// File name without extension.
        name: String,
        /// Caption.
        caption: String,
        /// SVG text.
        #[serde(skip)]
        svg: String,
    },
}

/// The folder of the pictures beside a Markdown file.
pub const FIGURES: &str = "figures";

/// The path of a picture, relative to the Markdown file.
fn path(name: &str) -> String {
    format!("{FIGURES}/{name}.svg")
}

/// The document as Markdown; pictures are links into [`FIGURES`].
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
            Block::Figure { name, caption, .. } => _ = writeln!(out, "![{caption}]({})", path(name)),
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;display:block;overflow-x:auto;margin:1rem 0}\
    th,td{padding:.2rem .7rem;border-bottom:1px solid #ddd;white-space:nowrap}\
    th:first-child,td:first-child{text-align:left}h2{margin-top:3rem}\
    figure{margin:1.5rem 0}figure svg{max-width:100%;height:auto}figcaption{color:#646464}\
    code{background:#f4f4f4;padding:0 .2em}";

/// The document as one HTML file that contains its pictures: the rendered [`markdown`], with an inline `<figure>` in
/// place of each link to a picture.
pub fn html(title: &str, blocks: &[Block]) -> String {
    let svg = |url: &str| {
        blocks.iter().find_map(|block| match block {
            Block::Figure { name, svg, .. } if path(name) == url => Some(svg.as_str()),
            _ => None,
        })
    };
    let markdown = markdown(blocks);
    // The content of an image is its caption.
    let events = Parser::new_ext(&markdown, Options::ENABLE_TABLES).map(|event| match event {
        Event::Start(Tag::Image { dest_url, .. }) => {
            let svg = svg(&dest_url).unwrap_or_default();
            Event::InlineHtml(format!("<figure>\n{svg}<figcaption>").into())
        }
        Event::End(TagEnd::Image) => Event::InlineHtml("</figcaption>\n</figure>".into()),
        event => event,
    });
    let mut body = String::new();
    commonmark::push_html(&mut body, events);
    // A figure is a block of its own.
    let body = body.replace("<p><figure>", "<figure>").replace("</figure></p>", "</figure>");
    let mut heading = String::new();
    commonmark::push_html(&mut heading, [Event::Text(title.into())].into_iter());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{heading}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n{body}</body>\n</html>\n"
    )
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
            Block::Figure { name: "pic".into(), caption: "x & y".into(), svg: "<svg></svg>\n".into() },
        ]
    }

    #[test]
    fn markdown_of_every_kind_of_block() {
        assert_eq!(
            markdown(&blocks()),
            "## Title\n\na < b, `code` and **bold**\n\n- one\n- two\n\n| a | b |\n|---|---:|\n| x | 1 |\n\n\
             ![x & y](figures/pic.svg)\n"
        );
    }

    #[test]
    fn html_contains_the_pictures() {
        let text = html("A & B", &blocks());
        for part in [
            "<title>A &amp; B</title>",
            "<p>a &lt; b, <code>code</code> and <strong>bold</strong></p>",
            "<li>two</li>",
            "<td>x</td><td style=\"text-align: right\">1</td>",
            "<figure>\n<svg></svg>\n<figcaption>x &amp; y</figcaption>\n</figure>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("<img") && !text.contains("<p><figure>"));
    }
}
