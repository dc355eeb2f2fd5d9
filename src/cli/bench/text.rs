//! `dynamoe bench text`: a training step of a network for text, its memory, and generation token by token.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::{Effort, MS, Times, digits, time};
use super::memory::peak_rss_mb;
use crate::cli::flags::{Network, Threads};
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::data::text::{Tokenizer, TokenizerKind};
use crate::engine::error::Error;
use crate::engine::kernels::par;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::simd;
use crate::nn::optim::Optimizer;
use crate::nn::{Feed, Init, Model, Tokens};
use crate::train::config::Config;
use crate::train::generate::{Sampling, Writer};
use crate::train::step;

/// A training step and generation of a network for text
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct TextReport {
    /// Sequences in a batch.
    batch: usize,
    /// Tokens of a sequence.
    sequence: usize,
    vocabulary: usize,
    experts: Vec<usize>,
    router: String,
    parameters: usize,
    threads: usize,
    /// SIMD level of the kernels.
    simd_level: &'static str,
    /// Forward, backward, AdamW on a batch of made-up tokens.
    train_step_ms: Times,
    train_tokens_per_second: f64,
    /// The most memory the process held until then.
    train_peak_rss_mb: Option<f64>,
    /// Token by token, with the cache, from the untrained network.
    generated_tokens_per_second: f64,
    /// Operations of a forward pass per token by the rule's own number of experts.
    active_flops: f64,
    /// The same by the number of experts that the generated tokens used.
    generated_flops: f64,
}

/// Tokens to generate: enough for a cache of realistic length.
const GENERATED: usize = 200;

/// Steps are long: few of them.
const STEPS: Effort = Effort { warm_up: 2, least: 7, most: 30, seconds: 4.0 };

/// Measures and prints.
pub fn run(args: Args) -> Result<()> {
    let Args { network, threads, output: Output { json, quick } } = args;
    let config = Config::resolve(&network.sources())?;
    if config.spec(1, 1).text.is_none() {
        let what = format!(
            "{} is images; use `dynamoe bench step`, or --dataset tinyshakespeare",
            config.data.dataset
        );
        return Err(Error::config("dataset", what).into());
    }
    note("measuring");
    let report = threads.run(|| measure(&config, quick))?;
    json.print(&report, describe)
}

fn measure(config: &Config, quick: bool) -> Result<TextReport> {
    // The number of characters depends on the text: a typical one.
    let vocabulary = match config.data.tokenizer {
        TokenizerKind::Gpt2 | TokenizerKind::Bytes => Tokenizer::new(config.data.tokenizer, &[]).vocabulary(),
        TokenizerKind::Chars | TokenizerKind::Numbers => 100,
    };
    let spec = config.checked_spec(0, vocabulary)?;
    let mut model = Model::<f32>::new(&spec, &mut Init::new(config.train.seed));
    let mut optimizer = Optimizer::new(config.optimizer_settings(), &model);
    let (batch, sequence) = (config.train.batch, config.data.sequence);
    let mut random = Stream::new(config.train.seed, Purpose::Check, 0, 0).generator();
    let mut ids =
        |count: usize| -> Vec<u32> { (0..count).map(|_| random.bounded(vocabulary as u32)).collect() };
    let (inputs, targets) = (ids(batch * sequence), ids(batch * sequence));
    let starts = (0..=batch).map(|i| i * sequence).collect();
    let feed = Feed::Tokens(Tokens { ids: inputs[..].into(), starts });
    let effort = STEPS.or_quick(quick);
    let train_step_ms = time(effort, MS, || {
        step(
            &mut model,
            &mut optimizer,
            feed.clone(),
            targets.clone(),
            1,
            config.optimizer.lr,
            config.optimizer.clip_norm,
        )?;
        Ok(())
    })?;
    let train_peak_rss_mb = peak_rss_mb();
    drop(optimizer);
    let count = if quick { 20 } else { GENERATED };
    let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, below: usize::MAX, seed: 1 };
    let (mut rates, mut k) = (Vec::new(), vec![0.0; spec.experts.len()]);
    for _ in 0..if quick { 1 } else { 5 } {
        let mut writer = Writer::new(&model, &inputs[..1], usize::MAX, true)?;
        let start = Instant::now();
        k = vec![0.0; spec.experts.len()];
        for _ in 0..count {
            writer.next(&sampling, &mut |read| {
                k.iter_mut().zip(&read.experts).for_each(|(k, chosen)| *k += chosen.len() as f64);
            })?;
        }
        rates.push(count as f64 / start.elapsed().as_secs_f64());
    }
    k.iter_mut().for_each(|k| *k /= count as f64);
    Ok(TextReport {
        batch,
        sequence,
        vocabulary,
        router: spec.router_name(),
        parameters: spec.parameters(),
        threads: par::threads(),
        simd_level: simd::name(),
        train_tokens_per_second: 1e3 * (batch * sequence) as f64 / train_step_ms.median,
        train_step_ms,
        train_peak_rss_mb,
        generated_tokens_per_second: Times::of(rates, 1.0).median,
        active_flops: spec.nominal_flops(),
        generated_flops: spec.active_flops(&k),
        experts: spec.experts,
    })
}

fn describe(r: &TextReport) -> String {
    let head = ["", "median", "min", "spread"].map(String::from).to_vec();
    let times = [&["training step".to_string()][..], &r.train_step_ms.cells("ms")].concat();
    let memory = r.train_peak_rss_mb.map_or(String::new(), |mb| format!(", {mb:.0} MB at most"));
    format!(
        "experts {:?}, {} parameters, {} tokens in the vocabulary, router: {}\n\
         {} sequences of {} tokens, {} threads, {}\n\n{}\n\
         training: {} tokens/s{memory}\n\
         generation, token by token: {} tokens/s\n\
         operations per token: {:.3e} by the rule, {:.3e} as generated\n",
        r.experts,
        grouped(r.parameters),
        grouped(r.vocabulary),
        r.router,
        r.batch,
        r.sequence,
        r.threads,
        r.simd_level,
        table(&[head, times]),
        grouped(r.train_tokens_per_second as usize),
        digits(r.generated_tokens_per_second),
        r.active_flops,
        r.generated_flops,
    )
}
