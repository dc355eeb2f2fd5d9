//! The verbs of `dynamoe bench` and their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Network;

#[derive(Subcommand)]
pub enum BenchVerb {
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
        /// Layer normalization: final, post, pre
        #[arg(long, value_name = "WHERE", default_value = "post")]
        norm: String,
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        #[command(flatten)]
        output: BenchOutput,
    },
    /// A training step and generation of a network for text
    Text {
        #[command(flatten)]
        network: Network,
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
    /// The head over a vocabulary with its loss and gradients against the processor's peak
    Head {
        /// Numbers in a token
        #[arg(long, value_delimiter = ',', value_name = "WIDTHS", default_value = "64,128,256")]
        width: Vec<usize>,
        /// Tokens in a batch
        #[arg(long, value_name = "N", default_value_t = 4096)]
        tokens: usize,
        /// Words in the vocabulary
        #[arg(long, value_name = "N", default_value_t = 50257)]
        vocabulary: usize,
        /// Threads [default: all]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
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
pub struct BenchOutput {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Measure almost nothing, only to see that it runs
    #[arg(long, hide = true)]
    pub quick: bool,
}
