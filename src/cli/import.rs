//! `dynamoe import`: a published network as a run, for `sample`, `eval` and `analyse`.

use std::path::Path;

use anyhow::Result;

use super::text::{grouped, print};
use crate::train::import::{Imported, read};
use crate::train::progress::TextInput;
use crate::train::run_folder::RunFolder;
use crate::train::{Input, Progress, State, checkpoint};

/// Reads the network in `folder` and writes it down as the run `out_dir`.
///
/// # Errors
/// Files that are missing or damaged, a network of another kind, a run folder that is there already, a full disk.
pub fn run(folder: &Path, out_dir: &Path) -> Result<()> {
    let Imported { config, mut model, tokenizer } = read(folder)?;
    let run = RunFolder::create(out_dir, &config)?;
    let state = State::of(&mut model, None);
    let digest = state.digest();
    let (name, vocabulary) = (tokenizer.name(), tokenizer.vocabulary());
    let progress = Progress { input: Input::Text(TextInput { tokenizer }), ..Progress::default() };
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
