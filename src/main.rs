//! The `dynamoe` program: parses the command line and hands over to `dynamoe::cli`.

use std::alloc::System;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dynamoe::cli::{self, bench};
use dynamoe::config::Layers;
use dynamoe::kernels::simd;
use dynamoe::reproduce::seeds::Seeds;
use dynamoe::train::Start;
use dynamoe::train::run_folder::LAST;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

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

/// Trains dynamic mixture-of-experts networks on CPUs, reproducible to the bit.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train a network (without flags: on the bundled digits)
    Train {
        #[command(flatten)]
        network: Network,
        #[command(flatten)]
        length: Length,
        #[command(flatten)]
        machine: Machine,
        /// Folder of the run [default: a new one below runs/]
        #[arg(long, value_name = "DIR")]
        out_dir: Option<PathBuf>,
        #[command(flatten)]
        training: Training,
    },
    /// Go on with a run that was stopped, to the same bits as if it had not been
    Resume {
        /// Folder of the run
        run: PathBuf,
        /// Go on from this checkpoint: last, or step-N
        #[arg(long, value_name = "NAME", default_value = LAST)]
        checkpoint: String,
        #[command(flatten)]
        machine: Machine,
        #[command(flatten)]
        training: Training,
    },
    /// Replay a run and compare every recorded digest; if one differs, name the first array that does
    Verify {
        /// Folder of the run
        run: PathBuf,
        /// Replay with each of these numbers of threads, such as 1,2,8 [default: all]
        #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
        threads: Option<Vec<usize>>,
        /// Replay with each of these families of kernels: avx512, avx2, neon, portable [default: the best]
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        simd: Option<Vec<String>>,
        /// Classify the test split in batches of each of these sizes [default: 1,7,64,256]
        #[arg(long, value_delimiter = ',', value_name = "SIZES")]
        batches: Option<Vec<usize>>,
        /// Stop after so many steps
        #[arg(long, value_name = "N")]
        steps: Option<u64>,
        /// Write every array of this step into the run's folder, for --against
        #[arg(long, value_name = "STEP", conflicts_with_all = ["steps", "batches"])]
        trace: Option<u64>,
        /// Replay nothing; compare what two runs recorded, on two machines say
        #[arg(
            long,
            value_name = "RUN",
            conflicts_with_all = ["threads", "simd", "batches", "steps", "trace", "fault"]
        )]
        against: Option<PathBuf>,
        #[command(flatten)]
        dir: DataDir,
        /// Turn one bit around: STEP:ARRAY:ELEMENT:BIT
        #[arg(long, hide = true)]
        fault: Option<dynamoe::verify::Fault>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write one training step, with every gradient, as a safetensors file for other frameworks
    Step {
        /// The file to write
        out: PathBuf,
        /// Take the network and the next batch from this run
        #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "dataset", "config", "set", "seed"])]
        run: Option<PathBuf>,
        /// Which checkpoint of the run: last or step-N
        #[arg(long, value_name = "NAME", default_value = LAST)]
        checkpoint: String,
        /// Take parameters and inputs from this safetensors file, and leave out all noise
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        network: Network,
        #[command(flatten)]
        machine: Machine,
    },
    /// Score a trained network on the test split
    Eval {
        /// Folder of the run
        run: PathBuf,
        #[command(flatten)]
        machine: Machine,
        /// Which checkpoint: last, best or step-N
        #[arg(long, value_name = "NAME", default_value = LAST)]
        checkpoint: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which experts a trained network uses, for which images, and how many
    Analyse {
        /// Folder of the run
        run: PathBuf,
        #[command(flatten)]
        machine: Machine,
        /// Which checkpoint: last, best or step-N
        #[arg(long, value_name = "NAME", default_value = LAST)]
        checkpoint: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Classify one image: an image file, or an image of the run's data set
    Predict {
        /// Folder of the run
        run: PathBuf,
        /// A PNG file of the data set's size
        #[arg(long, value_name = "FILE", conflicts_with = "index", required_unless_present = "index")]
        image: Option<PathBuf>,
        /// Dark on light: turn the image's brightness around first
        #[arg(long, conflicts_with = "index")]
        invert: bool,
        /// Number of an image in the test split, from 0
        #[arg(long, value_name = "N")]
        index: Option<usize>,
        #[command(flatten)]
        machine: Machine,
        /// Which checkpoint: last, best or step-N
        #[arg(long, value_name = "NAME", default_value = LAST)]
        checkpoint: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show layers, experts, parameters and active FLOPs of a preset, a configuration or a run
    Inspect {
        /// A run folder, a .toml file, or tiny, small, medium, large
        target: Option<PathBuf>,
        /// Change one setting; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Draw the schedules of experts over layers
    Schedule {
        /// Number of layers
        #[arg(long, default_value_t = 4)]
        layers: usize,
        /// Fewest experts of a layer
        #[arg(long, default_value_t = 1)]
        min: usize,
        /// Most experts of a layer
        #[arg(long, default_value_t = 8)]
        max: usize,
        /// A schedule of your own, such as 8,4,4,2
        #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
        custom: Option<Vec<usize>>,
        /// Also draw them into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Run the papers' experiments again and report what held; what is finished is never run twice
    Reproduce {
        /// table2, table3, table4, table6, table7, routers, balance, fairness, theory; all of these; sizes (hours)
        #[arg(required = true, value_name = "NAME")]
        experiments: Vec<String>,
        /// Seeds, such as 1..5 (both ends belong to it) or 1,2,5 [default: 1..3; with --quick 1..2]
        #[arg(long, value_name = "LIST")]
        seeds: Option<Seeds>,
        /// Tiny networks on the bundled digits, only to see that everything runs
        #[arg(long)]
        quick: bool,
        /// Folder of results and report [default: runs/reproduce, with --quick runs/reproduce-quick]
        #[arg(long, value_name = "DIR")]
        out_dir: Option<PathBuf>,
        /// Networks that train side by side, one thread each [default: as many as cores]; changes no result
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        dir: DataDir,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the gradient of every operation against differences
    Gradcheck,
    /// Measure how fast this machine trains, and how near that is to what it could do
    Bench {
        #[command(subcommand)]
        verb: BenchVerb,
    },
    /// List, fetch and verify the data sets
    Data {
        #[command(subcommand)]
        verb: DataVerb,
    },
}

#[derive(Subcommand)]
enum BenchVerb {
    /// A training step and inference of one network
    Step {
        /// Size: tiny, small, medium, large
        #[arg(long, value_name = "NAME", default_value = "small")]
        size: String,
        /// Images in a batch
        #[arg(long, value_name = "N", default_value_t = 256)]
        batch: usize,
        /// Numbers in an image
        #[arg(long, value_name = "N", default_value_t = 784)]
        input: usize,
        /// Classes
        #[arg(long, value_name = "N", default_value_t = 10)]
        classes: usize,
        /// Experts of each layer, such as 8,6,3,1 [default: descending from 8 to 1]
        #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
        experts: Option<Vec<usize>>,
        /// Hidden width of an expert [default: half the network's width]
        #[arg(long, value_name = "N")]
        expert_hidden: Option<usize>,
        /// Layer normalisation: final, post, pre
        #[arg(long, value_name = "WHERE", default_value = "post")]
        norm: String,
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        output: BenchOutput,
    },
    /// Matrix products against the processor's peak
    Gemm {
        /// Threads
        #[arg(long, value_name = "N", default_value_t = 1)]
        threads: usize,
        #[command(flatten)]
        output: BenchOutput,
    },
    /// The choice of experts against a plain sort
    Select {
        #[command(flatten)]
        output: BenchOutput,
    },
    /// The errors of functions and norms in f32, in units in the last place
    Accuracy {
        /// Try every N-th number; 1 tries them all, which takes minutes
        #[arg(long, value_name = "N", default_value_t = 1)]
        stride: u32,
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        output: BenchOutput,
    },
    /// A training step with every router against plain top-2
    Routers {
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        output: BenchOutput,
    },
    /// The training step of every size against the least time it could take
    Roofline {
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        output: BenchOutput,
        /// Also draw it into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// How the time of a step grows with tokens, experts and threads
    Scaling {
        /// Numbers of threads [default: 1, 2, 4 and so on up to all]
        #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
        threads_list: Option<Vec<usize>>,
        #[command(flatten)]
        output: BenchOutput,
        /// Also draw it into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

#[derive(Args)]
struct BenchOutput {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Measure almost nothing, only to see that it runs
    #[arg(long, hide = true)]
    quick: bool,
}

fn run_bench(verb: BenchVerb) -> anyhow::Result<()> {
    match verb {
        BenchVerb::Step { size, batch, input, classes, experts, expert_hidden, norm, threads, output } => {
            let (size, norm) = (size.as_str(), norm.as_str());
            let shape = bench::network::Shape { size, batch, input, classes, experts, expert_hidden, norm };
            bench::step::run(&shape, threads, output.quick, output.json, allocations)
        }
        BenchVerb::Gemm { threads, output } => bench::gemm::run(threads, output.quick, output.json),
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

#[derive(Subcommand)]
enum DataVerb {
    /// What there is, and where
    List(DataDir),
    /// Download a data set from its publisher
    Fetch {
        /// mnist, fashion-mnist or cifar-10
        name: String,
        #[command(flatten)]
        dir: DataDir,
        /// Print nothing but errors
        #[arg(long)]
        quiet: bool,
    },
    /// Check files against their known sums
    Verify {
        /// One data set [default: all that are here]
        name: Option<String>,
        #[command(flatten)]
        dir: DataDir,
    },
}

#[derive(Args)]
struct DataDir {
    /// Where data sets are [default: $DYNAMOE_DATA_DIR, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Machine {
    #[command(flatten)]
    dir: DataDir,
    /// Threads [default: all]; they change no result
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Args)]
struct Training {
    /// Keep so many checkpoints, the newest and those before it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    keep_last: u16,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
    /// Print summary.json at the end, and nothing else
    #[arg(long)]
    json: bool,
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

#[derive(Args)]
struct Network {
    /// Size: tiny, small, medium, large
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// digits, mnist, fashion-mnist or cifar-10
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Settings from a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of every random number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<String>,
}

#[derive(Args)]
struct Length {
    /// Passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Stop after so many steps
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
}

impl Network {
    /// The flags as layers of settings; `more` come last.
    fn layers(&self, more: impl IntoIterator<Item = String>) -> Layers<'_> {
        let flags = [
            self.dataset.as_ref().map(|v| format!("dataset={v}")),
            self.seed.as_ref().map(|v| format!("seed={v}")),
        ];
        let set = self.set.iter().cloned().chain(flags.into_iter().flatten()).chain(more).collect();
        Layers { preset: self.preset.as_deref(), file: self.config.as_deref(), set }
    }
}

impl Length {
    /// The flags as `key=value`.
    fn set(&self) -> impl Iterator<Item = String> {
        let flags =
            [self.epochs.map(|v| format!("epochs={v}")), self.max_steps.map(|v| format!("max_steps={v}"))];
        flags.into_iter().flatten()
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
        Verb::Eval { run, machine, checkpoint, json } => {
            cli::eval::run(&run, &checkpoint, machine.dir.data_dir.as_deref(), machine.threads, json)
        }
        Verb::Analyse { run, machine, checkpoint, json } => {
            cli::analyse::run(&run, &checkpoint, machine.dir.data_dir.as_deref(), machine.threads, json)
        }
        Verb::Predict { run, image, invert, index, machine, checkpoint, json } => {
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
