//! The `dynamoe` program: parses the command line and hands over to `dynamoe::cli`.

mod arguments;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use dynamoe::cli::{self, bench};
use dynamoe::engine::kernels::simd;
use dynamoe::train::Start;
use dynamoe::train::run_folder::LAST;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use arguments::{BenchVerb, DataVerb, Machine, Program, Saved, Training, Verb};

/// The system's allocator, counting for `dynamoe bench`.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The git revision that the program was built from; empty outside of a repository.
const REVISION: &str = git_version::git_version!(
    args = ["--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"],
    fallback = ""
);

/// The git revision, where it is known.
fn revision() -> Option<&'static str> {
    (!REVISION.is_empty()).then_some(REVISION)
}

/// New and resized blocks of memory so far.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

fn run_bench(verb: BenchVerb) -> anyhow::Result<()> {
    match verb {
        BenchVerb::Step { size, batch, input, classes, experts, expert_hidden, norm, threads, output } => {
            let (size, norm) = (size.as_str(), norm.as_str());
            let shape = bench::network::Shape { size, batch, input, classes, experts, expert_hidden, norm };
            bench::step::run(&shape, threads, output.quick, output.json, allocations)
        }
        BenchVerb::Text { network, threads, output } => {
            bench::text::run(&network.layers([]), threads, output.quick, output.json)
        }
        BenchVerb::Gemm { threads, output } => bench::gemm::run(threads, output.quick, output.json),
        BenchVerb::Head { width, tokens, vocabulary, threads, output } => {
            bench::head::run(&width, tokens, vocabulary, threads, output.quick, output.json)
        }
        BenchVerb::Select { output } => bench::select::run(output.quick, output.json),
        BenchVerb::Accuracy { stride, threads, output } => {
            bench::accuracy::run(stride, threads, output.quick, output.json)
        }
        BenchVerb::Routers { threads, output } => bench::routers::run(threads, output.quick, output.json),
        BenchVerb::Roofline { threads, output, svg } => {
            bench::roofline::run(threads, output.quick, output.json, svg.as_deref(), allocations)
        }
        BenchVerb::Scaling { threads_list, output, svg } => {
            bench::scaling::run(threads_list, output.quick, output.json, svg.as_deref())
        }
    }
}

impl Training {
    /// How to train, from this checkpoint on.
    fn how<'a>(&self, machine: &'a Machine, checkpoint: &'a str) -> cli::train::How<'a> {
        let start = Start { checkpoint, keep_last: self.keep_last.into(), revision: revision() };
        let Machine { dir, threads } = machine;
        let (data_dir, threads) = (dir.data_dir.as_deref(), *threads);
        cli::train::How { data_dir, threads, quiet: self.quiet, json: self.json, start }
    }
}

fn run(program: Program) -> anyhow::Result<()> {
    simd::check_environment()?;
    match program.verb {
        Verb::Train { network, length, machine, out_dir, training } => {
            let layers = network.layers(length.set());
            cli::train::run(&layers, out_dir.as_deref(), &training.how(&machine, LAST))
        }
        Verb::Step { out, run, checkpoint, from, network, machine } => {
            let source = match &run {
                Some(run) => cli::step::Source::Run(run, &checkpoint),
                None => cli::step::Source::Settings(network.layers([])),
            };
            let data_dir = machine.dir.data_dir.as_deref();
            cli::step::run(&out, &source, from.as_deref(), data_dir, machine.threads)
        }
        Verb::Resume { run, checkpoint, machine, training } => {
            cli::train::resume(&run, &training.how(&machine, &checkpoint))
        }
        Verb::Verify { run, threads, simd: profiles, batches, steps, trace, against, dir, fault, json } => {
            let data_dir = dir.data_dir.as_deref();
            let options = cli::verify::Options { threads, profiles, batches, steps, data_dir, fault, json };
            match (against, trace) {
                (Some(other), _) => cli::verify::against(&run, &other, json),
                (None, Some(step)) => cli::verify::trace(&run, step, &options),
                (None, None) => cli::verify::run(&run, &options),
            }
        }
        Verb::Eval { saved: Saved { run, checkpoint, json }, dataset, machine } => cli::eval::run(
            &run,
            &checkpoint,
            dataset.as_deref(),
            machine.dir.data_dir.as_deref(),
            machine.threads,
            json,
        ),
        Verb::Analyse { saved: Saved { run, checkpoint, json }, kinds, machine } => {
            let (kinds, data_dir) = (kinds.as_deref(), machine.dir.data_dir.as_deref());
            cli::analyse::run(&run, &checkpoint, kinds, data_dir, machine.threads, json)
        }
        Verb::Predict { saved: Saved { run, checkpoint, json }, image, invert, index, machine } => {
            let source = match (&image, index) {
                (Some(path), _) => cli::predict::Source::File { path, invert },
                (None, index) => cli::predict::Source::Index(index.unwrap_or(0)),
            };
            cli::predict::run(
                &run,
                &checkpoint,
                source,
                machine.dir.data_dir.as_deref(),
                machine.threads,
                json,
            )
        }
        Verb::Sample {
            saved: Saved { run, checkpoint, json },
            prompt,
            tokens,
            temperature,
            top_k,
            top_p,
            seed,
            no_cache,
            show,
            html,
            threads,
        } => {
            let below = usize::MAX;
            let sampling = dynamoe::train::generate::Sampling { temperature, top_k, top_p, below, seed };
            let (show, cached) = (show.is_some(), !no_cache);
            let (prompt, html) = (prompt.as_deref(), html.as_deref());
            let options =
                cli::sample::Options { prompt, tokens, sampling, cached, show, html, threads, json };
            cli::sample::run(&run, &checkpoint, &options)
        }
        Verb::Import { folder, out_dir } => cli::import::run(&folder, &out_dir),
        Verb::Inspect { target, set, json } => cli::inspect::run(target.as_deref(), set, json),
        Verb::Schedule { layers, min, max, custom, svg } => {
            cli::schedule::run(layers, min, max, custom.as_deref(), svg.as_deref())
        }
        Verb::Reproduce { experiments, seeds, quick, out_dir, threads, dir, json } => {
            let revision = revision();
            let (out_dir, data_dir) = (out_dir.as_deref(), dir.data_dir.as_deref());
            let options =
                cli::reproduce::Options { seeds, quick, out_dir, threads, data_dir, json, revision };
            cli::reproduce::run(&experiments, options)
        }
        Verb::Tokenize { text, file, tokenizer, json } => {
            cli::tokenize::run(text, file.as_deref(), tokenizer, json)
        }
        Verb::Gradcheck => cli::gradcheck::run(),
        Verb::Bench { verb } => run_bench(verb),
        Verb::Data { verb } => match verb {
            DataVerb::List(dir) => cli::data::list(dir.data_dir.as_deref()),
            DataVerb::Fetch { name, dir, quiet } => cli::data::fetch(&name, dir.data_dir.as_deref(), quiet),
            DataVerb::Verify { name, dir } => cli::data::verify(name.as_deref(), dir.data_dir.as_deref()),
        },
    }
}

/// What the parser calls a command line without any command.
const NO_COMMAND: clap::error::ErrorKind = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// The parser's message without its usage and hints on where to read on, in one line.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let told =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    told.collect::<Vec<_>>().join(" ").replace(" tip:", "; tip:")
}

fn main() -> ExitCode {
    // A mistake of this program, not of its user; still one line.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        eprintln!("error: internal: {text}; please report this with the command that led here");
    }));
    let program = match Program::try_parse() {
        Ok(program) => program,
        // Help and version are no errors.
        Err(error) if !error.use_stderr() || error.kind() == NO_COMMAND => error.exit(),
        Err(error) => {
            eprintln!("{}; see --help", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    match run(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let interrupted = matches!(error.downcast_ref(), Some(dynamoe::Error::Interrupted { .. }));
            ExitCode::from(if interrupted { 130 } else { 1 })
        }
    }
}
