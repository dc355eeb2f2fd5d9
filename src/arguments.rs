//! The command line, as the parser understands it: every command and flag, with the words of `--help`.

mod bench;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dynamoe::data::text::Kind;
use dynamoe::lab::reproduce::seeds::Seeds;
use dynamoe::train::config::Layers;
use dynamoe::train::run_folder::LAST;

pub use bench::BenchVerb;

/// Trains dynamic mixture-of-experts networks on CPUs, reproducible to the bit.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Program {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
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
        /// Judge the test split in batches of each of these sizes [default: 1,7,64,256]
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
        fault: Option<dynamoe::train::verify::Fault>,
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
        #[command(flatten)]
        saved: Saved,
        /// Score it on the test split of another data set of its kind, or on a text by path [default: the run's own]
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Show which experts a trained network uses, for what, and how many
    Analyse {
        #[command(flatten)]
        saved: Saved,
        /// Text: compare the experts of these texts, lists by kind in TOML [default: bundled ones]
        #[arg(long, value_name = "FILE")]
        kinds: Option<PathBuf>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Classify one image: an image file, or an image of the run's data set
    Predict {
        #[command(flatten)]
        saved: Saved,
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
    },
    /// Generate text from a trained network
    Sample {
        #[command(flatten)]
        saved: Saved,
        /// What it goes on from [default: the beginning of a text]
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        prompt: Option<String>,
        /// How many tokens
        #[arg(long, value_name = "N", default_value_t = 200)]
        tokens: usize,
        /// Below 1 for likelier text, above for stranger; 0 takes the likeliest token each time
        #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
        temperature: f64,
        /// Draw from so many likeliest tokens; 0 for all
        #[arg(long, value_name = "K", default_value_t = 0)]
        top_k: usize,
        /// Draw from the fewest likeliest tokens that have this share of the probability
        #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
        top_p: f64,
        /// Seed of the draws
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// Go through the whole text for each token: slow, and the same text
        #[arg(long)]
        no_cache: bool,
        /// Color each token by how many experts it used
        #[arg(long, value_name = "WHAT")]
        show: Option<Show>,
        /// Also write the colored text into this file
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// How many threads [default: one for each core]; changes no result
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
    },
    /// Take over a Transformer in the published layout of top-p routing (config.json, .safetensors) as a run
    Import {
        /// Folder of the files
        folder: PathBuf,
        /// Folder of the run
        #[arg(long, value_name = "DIR")]
        out_dir: PathBuf,
    },
    /// Show layers, experts, parameters and active FLOPs of a preset, a configuration or a run
    Inspect {
        /// A run folder, a .toml file, or a preset: tiny, small, medium, large; transformer-1m, -3m, -10m, -30m
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
        /// table2, table3, table4, table6, table7, routers, balance, fairness, theory; all of these; and what takes hours:
        /// sizes, table5, table5-web, transformer
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
    /// Show the tokens of a text: ids and pieces
    Tokenize {
        /// The text [default: standard input]
        text: Option<String>,
        /// Take the text from this file
        #[arg(long, value_name = "FILE", conflicts_with = "text")]
        file: Option<PathBuf>,
        /// Which tokenizer
        #[arg(long, value_enum, value_name = "NAME", default_value_t)]
        tokenizer: Kind,
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

/// What a network learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// The classes of images
    Images,
    /// Language: the next token of a text
    Lm,
}

/// What `sample` can show of each token.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Show {
    /// How many experts it used
    Experts,
}

#[derive(Subcommand)]
pub enum DataVerb {
    /// What there is, and where
    List(DataDir),
    /// Download a data set from its publisher
    Fetch {
        /// mnist, fashion-mnist, cifar-10 or recycling-the-web
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
pub struct DataDir {
    /// Where data sets are [default: $DYNAMOE_DATA_DIR, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Machine {
    #[command(flatten)]
    pub dir: DataDir,
    /// Threads [default: all]; they change no result
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// A trained network, and how to print what comes of it.
#[derive(Args)]
pub struct Saved {
    /// Folder of the run
    pub run: PathBuf,
    /// Which checkpoint: last, best or step-N
    #[arg(long, value_name = "NAME", default_value = LAST)]
    pub checkpoint: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Training {
    /// Keep so many checkpoints, the newest and those before it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub keep_last: u16,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
    /// Print summary.json at the end, and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Network {
    /// Size: tiny, small, medium, large; transformer-1m, -3m, -10m, -30m
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// What to learn: classes of images, or language [default: what the data set is for]
    #[arg(long, value_name = "WHAT")]
    pub task: Option<Task>,
    /// digits, mnist, fashion-mnist, cifar-10; guide, wikitext-2, recycling-the-web; or the path of a text, of a .jsonl
    /// file or of a folder of them
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Settings from a TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Change one setting; may be repeated. A run's config.toml has all of them
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of every random number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<String>,
}

#[derive(Args)]
pub struct Length {
    /// Passes over the training images, or over the training text
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Stop after so many steps; 0 for no such end
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
}

impl Network {
    /// The flags as layers of settings; `more` come last.
    pub fn layers(&self, more: impl IntoIterator<Item = String>) -> Layers<'_> {
        let flags = [
            self.dataset.as_ref().map(|v| format!("dataset={v}")),
            self.seed.as_ref().map(|v| format!("seed={v}")),
        ];
        let set = self.set.iter().cloned().chain(flags.into_iter().flatten()).chain(more).collect();
        let text = self.task.map(|task| task == Task::Lm);
        Layers { preset: self.preset.as_deref(), file: self.config.as_deref(), set, text }
    }
}

impl Length {
    /// The flags as `key=value`.
    pub fn set(&self) -> impl Iterator<Item = String> {
        let flags =
            [self.epochs.map(|v| format!("epochs={v}")), self.max_steps.map(|v| format!("max_steps={v}"))];
        flags.into_iter().flatten()
    }
}
