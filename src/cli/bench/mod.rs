//! `dynamoe bench`: how fast this machine trains, and how close that is to what it could do.
//!
//! Every figure is measured in the run that prints it, on random data, and needs no file. Each kind of measurement is a
//! file with its flags, as the verbs are; [`measure`] times work, [`network`] is the network that is measured, [`peak`]
//! the processor's and the memory's best speed.

mod accuracy;
mod gemm;
mod head;
mod measure;
mod memory;
mod network;
mod peak;
mod roofline;
mod routers;
mod scaling;
mod select;
mod step;
mod sweep;
mod text;
mod ulp;

use anyhow::Result;

use super::flags::Json;

verbs! {
    Step = step,
    Text = text,
    Gemm = gemm,
    Head = head,
    Select = select,
    Accuracy = accuracy,
    Routers = routers,
    Roofline = roofline,
    Scaling = scaling,
}

/// Measure how fast this machine trains, and how close that is to what it could do
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What every measurement can print.
#[derive(clap::Args)]
pub struct Output {
    #[command(flatten)]
    json: Json,
    /// Measure almost nothing, only to check that it runs
    #[arg(long, hide = true)]
    quick: bool,
}

/// Runs one measurement.
pub fn run(args: Args) -> Result<()> {
    args.verb.run()
}
