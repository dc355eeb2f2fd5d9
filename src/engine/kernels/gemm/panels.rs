//! Packing for `tile.rs`: B into panels as wide as a tile, and A into strips; this also gathers and transposes.

#![expect(clippy::needless_range_loop, reason = "an iterator's closures lose the instruction set")]

use fearless_simd::{Simd, f32x16, prelude::*};

use super::definition::CHUNK;
use super::mat::Mat;
use crate::engine::kernels::{par, simd::SimdLevel};

/// Lanes of a vector.
pub const LANES: usize = 16;
/// A vector in memory.
pub type Lanes = [f32; LANES];
/// Columns of C per round of packing: a chunk of B with this many columns fits in the second-level cache.
pub const COLUMNS: usize = 512;

/// Width of a panel and of a tile; a tile of this width and of its height (`tile.rs`) fits in the registers. 0 if the
/// level has no fused multiply-add.
pub fn width(level: SimdLevel, columns: usize) -> usize {
    match (level, columns) {
        (SimdLevel::Portable, _) => 0,
        #[cfg(target_arch = "x86_64")]
        (SimdLevel::Avx512(_), columns) if columns > LANES => 2 * LANES,
        _ => LANES,
    }
}

/// All panels of B: block of columns by block, and within a block chunk by chunk.
pub fn pack(level: SimdLevel, out: &mut [f32], b: &Mat<f32>) {
    let inner = b.rows();
    for (block, out) in out.chunks_mut(inner * COLUMNS).enumerate() {
        let size = out.len() / inner * CHUNK;
        par::chunks(out, size, |chunk, out| {
            let (first, column) = (chunk * CHUNK, block * COLUMNS);
            let depth = CHUNK.min(inner - first);
            match level {
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx512(simd) => simd.vectorize(
                    #[inline(always)]
                    || match width(level, b.cols()) {
                        LANES => pack_panels::<_, 1>(simd, out, depth, b, first, column),
                        _ => pack_panels::<_, 2>(simd, out, depth, b, first, column),
                    },
                ),
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx2(simd) => simd.vectorize(
                    #[inline(always)]
                    || pack_panels::<_, 1>(simd, out, depth, b, first, column),
                ),
                #[cfg(target_arch = "aarch64")]
                SimdLevel::Neon(simd) => simd.vectorize(
                    #[inline(always)]
                    || pack_panels::<_, 1>(simd, out, depth, b, first, column),
                ),
                SimdLevel::Portable => (),
            }
        });
    }
}

/// `depth` rows of B from row `first`, as panels from column `column` on.
#[inline(always)]
pub fn pack_panels<S: Simd, const V: usize>(
    simd: S,
    out: &mut [f32],
    depth: usize,
    b: &Mat<f32>,
    first: usize,
    column: usize,
) {
    let (panels, _) = out.as_chunks_mut::<LANES>().0.as_chunks_mut::<V>();
    for (j, panel) in panels.chunks_exact_mut(depth).enumerate() {
        pack_panel(simd, panel, b, first, column + j * V * LANES);
    }
}

/// One panel: rows of B from `first`, columns from `column`; zeros beyond the last column.
#[inline(always)]
fn pack_panel<S: Simd, const V: usize>(
    simd: S,
    panel: &mut [[Lanes; V]],
    b: &Mat<f32>,
    first: usize,
    column: usize,
) {
    let columns = (b.cols() - column).min(V * LANES);
    if !b.transposed {
        for (p, to) in panel.iter_mut().enumerate() {
            let from = &b.stored(first + p)[column..][..columns];
            if columns == V * LANES {
                for v in 0..V {
                    f32x16::from_slice(simd, &from[v * LANES..][..LANES]).store_slice(&mut to[v]);
                }
            } else {
                let to = to.as_flattened_mut();
                to[..columns].copy_from_slice(from);
                to[columns..].fill(0.0);
            }
        }
        return;
    }
    for v in 0..V {
        let rows = columns.saturating_sub(v * LANES).min(LANES);
        for (block, to) in panel.chunks_mut(LANES).enumerate() {
            let first = first + block * LANES;
            let row = |j: usize| &b.stored(column + v * LANES + j)[first..];
            let mut square = [f32x16::splat(simd, 0.0); LANES];
            if rows == LANES && to.len() == LANES {
                for j in 0..LANES {
                    square[j] = f32x16::from_slice(simd, &row(j)[..LANES]);
                }
                transpose(&mut square);
                for j in 0..LANES {
                    square[j].store_slice(&mut to[j][v]);
                }
            } else {
                for j in 0..rows {
                    square[j] = load(simd, &row(j)[..to.len()]);
                }
                transpose(&mut square);
                for j in 0..to.len() {
                    square[j].store_slice(&mut to[j][v]);
                }
            }
        }
    }
}

/// Transposes 16 by 16 elements: four rounds, each interleaving every row with the row eight below.
#[inline(always)]
fn transpose<S: Simd>(square: &mut [f32x16<S>; LANES]) {
    for _ in 0..4 {
        let from = *square;
        for i in 0..LANES / 2 {
            let (low, high) = from[i].interleave(from[i + LANES / 2]);
            (square[2 * i], square[2 * i + 1]) = (low, high);
        }
    }
}

/// A strip of a transposed A: `high` of its rows from `row`, inner indices from `first`. The elements of one step of the
/// sums are adjacent.
#[inline(always)]
pub fn pack_columns<const R: usize>(
    strip: &mut [[f32; R]],
    a: &Mat<f32>,
    first: usize,
    row: usize,
    high: usize,
) {
    for (p, to) in strip.iter_mut().enumerate() {
        let from = &a.stored(first + p)[row..][..high];
        match from.first_chunk::<R>() {
            Some(from) => *to = *from,
            None => to[..high].copy_from_slice(from),
        }
    }
}

/// Up to 16 numbers, padded with zeros.
#[inline(always)]
pub fn load<S: Simd>(simd: S, x: &[f32]) -> f32x16<S> {
    if x.len() == LANES {
        return f32x16::from_slice(simd, x);
    }
    let mut lanes = [0.0; LANES];
    lanes[..x.len()].copy_from_slice(x);
    f32x16::from_slice(simd, &lanes)
}
