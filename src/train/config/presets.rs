//! Named sizes.

use crate::engine::error::{Error, Result, nearest};

/// The sizes of the paper: name, layers, width.
pub const PRESETS: [(&str, usize, usize); 4] =
    [("tiny", 2, 64), ("small", 4, 128), ("medium", 6, 256), ("large", 8, 512)];

/// Transformers by about how many parameters they have with byte tokens: name, settings.
pub const TRANSFORMERS: [(&str, &[&str]); 4] = [
    ("transformer-1m", &["layers=4", "width=128", "experts_max=4", "expert_hidden=176"]),
    ("transformer-3m", &["layers=6", "width=192", "experts_max=6", "expert_hidden=168"]),
    ("transformer-10m", &["layers=8", "width=256", "experts_max=8", "expert_hidden=280"]),
    ("transformer-30m", &["layers=12", "width=384", "experts_max=8", "expert_hidden=368"]),
];

/// What every one of [`TRANSFORMERS`] sets.
const TRANSFORMER: [&str; 5] =
    ["model=transformer", "dataset=tinyshakespeare", "sequence=256", "clip_norm=1", "warmup_steps=20"];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.0).chain(TRANSFORMERS.iter().map(|preset| preset.0))
}

/// The settings that a preset stands for.
///
/// # Errors
/// An unknown name, with the nearest one.
pub fn preset(name: &str) -> Result<Vec<String>> {
    if let Some((_, layers, width)) = PRESETS.iter().find(|preset| preset.0 == name) {
        return Ok(vec![format!("layers={layers}"), format!("width={width}")]);
    }
    if let Some((_, own)) = TRANSFORMERS.iter().find(|preset| preset.0 == name) {
        return Ok(TRANSFORMER.iter().chain(*own).map(|text| text.to_string()).collect());
    }
    let (near, all) = (nearest(name, names()).unwrap_or_default(), names().collect::<Vec<_>>().join(", "));
    Err(Error::config("preset", format!("`{name}` is none of {all}; the nearest is `{near}`")))
}
