//! `dynamoe tokenize`: the tokens of a text.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::flags::Json;
use super::output::table;
use crate::data::text::files::read_text;
use crate::data::text::{Tokenizer, TokenizerKind};
use crate::engine::error::Error;

/// What `--json` prints.
#[derive(Serialize)]
struct Tokens {
    tokenizer: &'static str,
    vocabulary: usize,
    /// In order.
    tokens: Vec<Token>,
    /// Of the text, in UTF-8.
    bytes: usize,
    /// Absent for an empty text.
    bytes_per_token: Option<f64>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    /// Its bytes, with escapes for those that cannot be printed.
    piece: String,
}

/// Show the tokens of a text: ids and pieces
#[derive(clap::Args)]
pub struct Args {
    /// The text [default: standard input]
    text: Option<String>,
    /// Read the text from this file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Which tokenizer
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    tokenizer: TokenizerKind,
    #[command(flatten)]
    json: Json,
}

/// Prints the tokens. The alphabet of [`TokenizerKind::Chars`] is that of the text itself.
pub fn run(args: Args) -> Result<()> {
    let Args { text, file, tokenizer, json } = args;
    let text = match (text, file.as_deref()) {
        (Some(text), _) => text,
        (None, Some(path)) => read_text(path)?,
        (None, None) => std::io::read_to_string(std::io::stdin())
            .map_err(|error| anyhow!("cannot read standard input: {error}"))?,
    };
    let tokenizer = Tokenizer::new(tokenizer, std::slice::from_ref(&text));
    if let Some(piece) = tokenizer.unknown(&text) {
        return Err(Error::config("text", format!("{piece:?} is not a number")).into());
    }
    json.print(&tokens(&text, &tokenizer), describe)
}

fn describe(tokens: &Tokens) -> String {
    let Tokens { tokens, bytes, bytes_per_token, .. } = tokens;
    let line = |token: &Token| vec![token.id.to_string(), format!("\"{}\"", token.piece)];
    let ratio = bytes_per_token.map(|ratio| format!("   bytes per token: {ratio:.2}")).unwrap_or_default();
    let lines = table(&tokens.iter().map(line).collect::<Vec<_>>());
    format!("{lines}tokens: {}   bytes: {bytes}{ratio}\n", tokens.len())
}

fn tokens(text: &str, tokenizer: &Tokenizer) -> Tokens {
    let token = |id| Token { id, piece: escaped(&tokenizer.piece(id)) };
    let tokens: Vec<Token> = tokenizer.encode(text).into_iter().map(token).collect();
    let bytes = text.len();
    let bytes_per_token = (!tokens.is_empty()).then(|| bytes as f64 / tokens.len() as f64);
    Tokens { tokenizer: tokenizer.name(), vocabulary: tokenizer.vocabulary(), tokens, bytes, bytes_per_token }
}

/// Bytes as in a string literal of Rust: printable text as it is, the rest escaped.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        let quoted = format!("{:?}", chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        for (bytes, shown) in [
            (" it's ä".as_bytes(), " it's ä"),
            (b"\"a\\b\"\n\t\x00\x1b", r#"\"a\\b\"\n\t\0\u{1b}"#),
            (b"a\xc3", r"a\xc3"),
            (b"\xa4\xff b", r"\xa4\xff b"),
            (b"", ""),
        ] {
            assert_eq!(escaped(bytes), shown);
        }
    }

    #[test]
    fn a_text_is_counted() {
        let of = |text: &str, kind| tokens(text, &Tokenizer::new(kind, &[text.to_string()]));
        let counted = of("Hello world", TokenizerKind::Gpt2);
        assert_eq!((counted.tokens.len(), counted.bytes, counted.bytes_per_token), (2, 11, Some(5.5)));
        let counted = of("ää", TokenizerKind::Chars);
        assert_eq!((counted.vocabulary, counted.tokens.len(), counted.bytes), (2, 2, 4));
        assert_eq!(of("", TokenizerKind::Bytes).bytes_per_token, None);
    }
}
