//! `dynamoe completions`: the script by which a shell completes verbs and flags.

use anyhow::Result;
use clap_complete::{Shell, generate};

use super::{Program, output::print};

/// Print the script that completes commands and flags in a shell
#[derive(clap::Args)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: Args) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut Program::description(), "dynamoe", &mut script);
    print(&String::from_utf8(script)?)
}
