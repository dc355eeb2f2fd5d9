//! `manifest.json`: programs, machines, settings and data of a run, and digests of its state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::error::{Error, Result};
use crate::engine::kernels::{par, simd};
use crate::train::config::Config;

/// The file's name in a run folder.
pub const FILE: &str = "manifest.json";

/// What a run was made with, and digests of its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout.
    pub schema_version: u32,
    /// [`config_digest`] of the settings.
    pub config_digest: String,
    /// [`crate::data::Dataset::digest`].
    pub data_digest: String,
    /// The programs and machines that worked on it, in order.
    pub sessions: Vec<Session>,
    /// Digests of the state, in order of steps.
    pub chain: Vec<Link>,
}

/// A part of a run, trained by one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Steps that were already taken.
    pub from_step: u64,
    /// This crate's version.
    pub version: String,
    /// The git revision it was built from, `-modified` if it was not quite that; none outside of a repository.
    pub revision: Option<String>,
    /// The compiler.
    pub rustc: String,
    /// The platform it was built for.
    pub target: String,
    /// Vector extensions of the processor.
    pub features: Vec<String>,
    /// SIMD level of the kernels (`profile` in older manifests); every level gives the same bits.
    #[serde(alias = "profile")]
    pub simd_level: String,
    /// Threads. They change no bit either.
    pub threads: usize,
}

/// The state after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Steps taken.
    pub step: u64,
    /// The epoch that ended here, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<usize>,
    /// [`super::state::State::digest`] of parameters, optimizer and running statistics.
    pub digest: String,
}

impl Session {
    /// This program, built from `revision`, on this machine, with the threads of the current pool.
    pub fn here(from_step: u64, revision: Option<&str>) -> Session {
        Session {
            from_step,
            version: env!("CARGO_PKG_VERSION").into(),
            revision: revision.map(String::from),
            rustc: env!("DYNAMOE_RUSTC").into(),
            target: env!("DYNAMOE_TARGET").into(),
            features: features(),
            simd_level: simd::name().into(),
            threads: par::threads(),
        }
    }
}

/// The vector extensions of this processor that kernels could use, by their names in Rust.
fn features() -> Vec<String> {
    macro_rules! detected {
        ($detect:ident: $($name:tt)*) => {
            [$(($name, std::arch::$detect!($name))),*]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let all = detected!(is_x86_feature_detected: "sse2" "sse4.2" "avx" "avx2" "fma" "avx512f" "avx512bw" "avx512vl");
    #[cfg(target_arch = "aarch64")]
    let all = detected!(is_aarch64_feature_detected: "neon" "sve");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_string()).collect()
}

/// BLAKE3 of a configuration's flat text, which no version of the program writes differently.
pub fn config_digest(config: &Config) -> String {
    blake3::hash(config.flat_text().as_bytes()).to_hex().to_string()
}

impl Manifest {
    /// Reads the manifest of the run in `folder`.
    ///
    /// # Errors
    /// A manifest that is missing, damaged or of another layout.
    pub fn load(folder: &Path) -> Result<Manifest> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::data(&path, "this run has no manifest: training has not started")
            }
            _ => Error::io("read", &path)(e),
        })?;
        #[derive(Deserialize)]
        struct Versioned {
            schema_version: u32,
        }
        match serde_json::from_str(&text) {
            Ok(Versioned { schema_version: SCHEMA_VERSION }) | Err(_) => (),
            Ok(Versioned { schema_version: other }) => {
                let what = format!("layout version {other}, this program reads {SCHEMA_VERSION}");
                return Err(Error::data(&path, what));
            }
        }
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| {
            Error::data(
                &path,
                format!(
                    "not a usable manifest ({e}); `dynamoe resume` rewrites it if the run is not finished"
                ),
            )
        })?;
        if !manifest.chain.is_sorted_by(|a, b| a.step < b.step) {
            return Err(Error::data(&path, "was edited: the steps of its digests are not in order"));
        }
        Ok(manifest)
    }
}

/// Version of the layout.
pub const SCHEMA_VERSION: u32 = 1;
