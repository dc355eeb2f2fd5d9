//! `dynamoe import`: a published network as a run, for `sample`, `eval` and `analyze`.

use std::path::PathBuf;

use anyhow::Result;

use super::output::{grouped, print};
use crate::data::{Encoding, TextEncoding};
use crate::train::import::{Imported, read};
use crate::train::run_folder::RunFolder;
use crate::train::{Progress, State, checkpoint};

/// Import a Transformer in the published layout of top-p routing (config.json, .safetensors) as a run
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the files
    folder: PathBuf,
    /// Folder of the run to write
    #[arg(long, value_name = "DIR")]
    out_dir: PathBuf,
}

/// Reads the network and writes it as a run.
pub fn run(args: Args) -> Result<()> {
    let Args { folder, out_dir } = args;
    let Imported { config, model, tokenizer } = read(&folder)?;
    let run = RunFolder::create(&out_dir, &config)?;
    let state = State::of(&model, None);
    let digest = state.digest();
    let (name, vocabulary) = (tokenizer.name(), tokenizer.vocabulary());
    let progress = Progress { input: Encoding::Text(TextEncoding { tokenizer }), ..Progress::default() };
    checkpoint::save(&run.last(), &config, state, digest.clone(), &progress)?;
    let spec = model.spec();
    print(&format!(
        "{} layers of {:?} experts, {} parameters, {} tokens ({name})\ndigest of the parameters {digest}\n\
         the run is in {}\n",
        spec.experts.len(),
        spec.experts,
        grouped(spec.parameters()),
        grouped(vocabulary),
        out_dir.display(),
    ))
}
