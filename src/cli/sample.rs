//! `dynamoe sample`: text from a trained network, as it comes, and the experts of each token.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::flags::{Json, Saved, Threads};
use super::output::print;
use crate::data::Encoding;
use crate::data::text::tokenizer::Tokenizer;
use crate::engine::error::Error;
use crate::engine::files;
use crate::train::generate::{Sampling, Step, Writer};

/// Generate text from a trained network
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: Saved,
    /// Text to continue [default: the beginning of a document]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 200)]
    tokens: usize,
    /// Below 1 for likelier text, above 1 for more varied text; 0 takes the most likely token each time
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Sample from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Sample from the fewest most likely tokens that have this share of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Seed of the sampling
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Recompute the whole text for each token: slow, and the same text
    #[arg(long)]
    no_cache: bool,
    /// Color each token by the number of its experts
    #[arg(long, value_name = "WHAT")]
    show: Option<Show>,
    /// Also write the colored text to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    json: Json,
}

/// What can be shown of each token.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Show {
    /// The number of its experts
    Experts,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Sample {
    text: String,
    /// Every token of prompt and text.
    tokens: Vec<Step>,
    tokens_per_second: f64,
}

/// Generates text and prints it as it comes.
pub fn run(args: Args) -> Result<()> {
    let Args { temperature, top_k, top_p, seed, .. } = args;
    let sampling = Sampling { temperature, top_k, top_p, below: usize::MAX, seed };
    sampling.check()?;
    let (sample, tokenizer) = args.threads.run(|| {
        let trained = args.saved.open()?;
        let Encoding::Text(input) = &trained.input else {
            let what = "this network is for images; `dynamoe predict` classifies one";
            return Err(Error::data(&args.saved.run, what).into());
        };
        let tokenizer = input.tokenizer.clone();
        let prompt = match &args.prompt {
            Some(text) => known(&tokenizer, text)?,
            // A text begins after the end of another, or on a new line.
            None => tokenizer.end_of_text().map_or_else(|| tokenizer.encode("\n"), |end| vec![end]),
        };
        let sampling = Sampling { below: tokenizer.readable(), ..sampling };
        let begins = if args.prompt.is_some() { 0 } else { prompt.len() };
        let mut writer = Writer::new(&trained.model, &prompt, trained.config.data.sequence, !args.no_cache)?;
        let (mut read, mut ids, mut stream) =
            (Vec::new(), prompt.clone(), Stream::new(&tokenizer, args.json.json || args.show.is_some()));
        stream.write(&prompt[begins..])?;
        let start = Instant::now();
        for _ in 0..args.tokens {
            let id = writer.next(&sampling, &mut |step| read.push(step))?;
            stream.write(&[id])?;
            ids.push(id);
        }
        let tokens_per_second = args.tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
        stream.end()?;
        if args.json.json || args.show.is_some() || args.html.is_some() {
            writer.finish(&mut |step| read.push(step))?;
        }
        let text = tokenizer.decode(&ids[begins..]);
        Ok((Sample { text, tokens: read.split_off(begins.min(read.len())), tokens_per_second }, tokenizer))
    })?;
    if let Some(path) = &args.html {
        files::write(path, html(&sample.tokens, &tokenizer).as_bytes())?;
    }
    if args.json.json {
        return print(&(serde_json::to_string_pretty(&sample)? + "\n"));
    }
    if args.show.is_some() {
        print(&colored(&sample.tokens, &tokenizer))?;
    }
    if std::io::stderr().is_terminal() {
        eprintln!("{} tokens, {:.1} per second", args.tokens, sample.tokens_per_second);
    }
    Ok(())
}

/// The tokens of a prompt.
fn known(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    match tokenizer.unknown(text) {
        None => Ok(tokenizer.encode(text)),
        Some(piece) => Err(Error::config("prompt", format!("this network knows no {piece:?}")).into()),
    }
}

/// Prints tokens as soon as their bytes are whole characters.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
    silent: bool,
}

impl<'a> Stream<'a> {
    fn new(tokenizer: &'a Tokenizer, silent: bool) -> Stream<'a> {
        Stream { tokenizer, pending: Vec::new(), silent }
    }

    fn write(&mut self, ids: &[u32]) -> Result<()> {
        self.pending.extend(ids.iter().flat_map(|&id| self.tokenizer.piece(id)));
        let whole = whole_characters(&self.pending);
        let text = shown(&self.pending[..whole]);
        self.pending.drain(..whole);
        self.print(&text)
    }

    fn end(&mut self) -> Result<()> {
        let text = shown(&self.pending) + "\n";
        self.print(&text)
    }

    fn print(&self, text: &str) -> Result<()> {
        if self.silent {
            return Ok(());
        }
        print(text)?;
        std::io::stdout().flush().ok();
        Ok(())
    }
}

/// Bytes as text; what is no text, and what would command a terminal, is replaced.
fn shown(bytes: &[u8]) -> String {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    String::from_utf8_lossy(bytes).replace(commands, "\u{fffd}")
}

/// How many of the bytes can be shown now: all but the beginning of a character at their end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // What is wrong and not only unfinished stays wrong.
        Err(error) if error.error_len().is_some() => {
            let bad = error.valid_up_to() + error.error_len().unwrap_or(1);
            bad + whole_characters(&bytes[bad..])
        }
        Err(error) => error.valid_up_to(),
    }
}

/// How many experts each token had over all layers, and the least and the most.
fn counts(tokens: &[Step]) -> (Vec<usize>, usize, usize) {
    let count = |step: &Step| step.experts.iter().map(Vec::len).sum();
    let all: Vec<usize> = tokens.iter().map(count).collect();
    let (least, most) = (all.iter().min(), all.iter().max());
    (all.clone(), least.copied().unwrap_or(0), most.copied().unwrap_or(0))
}

/// From 0 for the least to 1 for the most.
fn share(count: usize, least: usize, most: usize) -> f64 {
    if most > least { (count - least) as f64 / (most - least) as f64 } else { 0.0 }
}

/// What the colors say.
fn legend(least: usize, most: usize) -> String {
    match least == most {
        true => format!("Each token used {least} experts over all layers."),
        false => format!("Experts of a token over all layers: {least} (white) to {most} (orange)."),
    }
}

/// Dark text on white for the least experts to orange for the most.
fn shade(share: f64) -> [u8; 3] {
    [(255.0, 255.0), (255.0, 150.0), (255.0, 50.0)].map(|(from, to)| (from + share * (to - from)) as u8)
}

/// Pieces of text with the number of experts of the token that ends each, joined where a character goes over several
/// tokens.
fn pieces(tokens: &[Step], tokenizer: &Tokenizer) -> Vec<(String, usize)> {
    let (counts, ..) = counts(tokens);
    let last = counts.last().copied();
    let (mut out, mut pending) = (Vec::new(), Vec::new());
    for (step, count) in tokens.iter().zip(counts) {
        pending.extend(tokenizer.piece(step.id));
        if whole_characters(&pending) == pending.len() {
            out.push((shown(&pending), count));
            pending.clear();
        }
    }
    // The text may end within a character.
    if let (false, Some(count)) = (pending.is_empty(), last) {
        out.push((shown(&pending), count));
    }
    out
}

/// For a terminal.
fn colored(tokens: &[Step], tokenizer: &Tokenizer) -> String {
    let (_, least, most) = counts(tokens);
    let mut text = String::new();
    for (piece, count) in pieces(tokens, tokenizer) {
        let [r, g, b] = shade(share(count, least, most));
        // A background must not run on over the end of a line.
        for line in piece.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            text += &format!("\x1b[30;48;2;{r};{g};{b}m{line}\x1b[0m{end}");
        }
    }
    format!("{text}\n\n{}\n", legend(least, most))
}

/// As a page.
fn html(tokens: &[Step], tokenizer: &Tokenizer) -> String {
    let (_, least, most) = counts(tokens);
    let mut text = String::new();
    for (piece, count) in pieces(tokens, tokenizer) {
        let [r, g, b] = shade(share(count, least, most));
        let piece = piece.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text +=
            &format!("<span style=\"background:rgb({r},{g},{b})\" title=\"{count} experts\">{piece}</span>");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Experts by token</title>\n\
         <style>body{{font:16px/1.6 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#222}}\
         pre{{font:inherit;white-space:pre-wrap}}</style>\n</head>\n<body>\n\
         <p>{}</p>\n<pre>{text}</pre>\n</body>\n</html>\n",
        legend(least, most)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_characters_are_shown() {
        let euro = "a€".as_bytes();
        assert_eq!([1, 2, 3, 4].map(|n| whole_characters(&euro[..n])), [1, 1, 1, 4]);
        assert_eq!(whole_characters(&[b'a', 0xff, b'b']), 3);
        assert_eq!(whole_characters(&[0xff, 0xe2, 0x82]), 1);
    }

    fn steps() -> Vec<Step> {
        let step = |id: u8, counts: [u16; 2]| Step {
            id: id.into(),
            experts: counts.map(|count| (0..count).collect()).into(),
        };
        vec![step(b'<', [1, 1]), step(b'\n', [3, 1]), step(0xc3, [1, 1]), step(0xa4, [2, 1])]
    }

    #[test]
    fn colors_go_from_the_least_to_the_most_experts() {
        let page = html(&steps(), &Tokenizer::Bytes);
        assert!(page.contains("2 (white) to 4 (orange)"), "{page}");
        assert!(page.contains("rgb(255,255,255)\" title=\"2 experts\">&lt;</span>"), "{page}");
        assert!(page.contains("rgb(255,150,50)\" title=\"4 experts\">\n</span>"), "{page}");
        assert!(page.contains("title=\"3 experts\">ä</span>"), "{page}");
        let page = html(&steps()[..3], &Tokenizer::Bytes);
        assert!(page.contains("title=\"2 experts\">\u{fffd}</span>"), "{page}");
        let text = colored(&steps(), &Tokenizer::Bytes);
        assert!(
            text.starts_with("\x1b[30;48;2;255;255;255m<\x1b[0m\x1b[30;48;2;255;150;50m\x1b[0m\n"),
            "{text:?}"
        );
    }
}
