//! The f32 product on processors with fused multiply-adds: packed panels, and tiles of C held in registers.
//!
//! The loops follow Goto and van de Geijn (2008): over blocks of columns of C, over the definition's chunks of the inner
//! dimension, over strips of rows of C. A chunk of B is packed into panels as wide as a tile, a strip of A as high as a
//! tile into one contiguous piece. The sums of a tile stay in registers for the whole chunk.

#![expect(clippy::needless_range_loop, reason = "an iterator's closures lose the instruction set")]

use fearless_simd::{Simd, f32x16, prelude::*};

use super::definition::{CHUNK, Start};
use super::mat::Mat;
use super::panels::{self, COLUMNS, LANES, Lanes, load, pack_columns, pack_panels};
use crate::engine::kernels::{pool, simd::SimdLevel};

/// Stride of the copied rows of a strip: more than a chunk, so that rows do not share cache lines.
const STRIP: usize = CHUNK + LANES;
/// With this many columns of C, copying the strip of A saves time.
const WIDE: usize = 256;
/// Up to this many rows of A, packing B costs more than it saves.
const FEW: usize = 4;

/// `out = start + a b` at a SIMD level, negative elements set to zero if `relu`; `false` if the level has no fused
/// multiply-add. The inner dimension is not 0.
pub fn product(
    level: SimdLevel,
    out: &mut [f32],
    a: Mat<f32>,
    b: Mat<f32>,
    start: Start<f32>,
    relu: bool,
) -> bool {
    let task = Task { a, b, start, relu };
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512(simd) => simd.vectorize(
            #[inline(always)]
            || match panels::width(level, b.cols()) {
                LANES => task.run::<_, 12, 1>(simd, out),
                _ => task.run::<_, 12, 2>(simd, out),
            },
        ),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2(simd) => simd.vectorize(
            #[inline(always)]
            || task.run::<_, 6, 1>(simd, out),
        ),
        #[cfg(target_arch = "aarch64")]
        SimdLevel::Neon(simd) => simd.vectorize(
            #[inline(always)]
            || task.run::<_, 6, 1>(simd, out),
        ),
        SimdLevel::Portable => return false,
    }
    true
}

/// `C = start + A B`, with negative elements of C set to zero if `relu`.
#[derive(Clone, Copy)]
struct Task<'a> {
    a: Mat<'a, f32>,
    b: Mat<'a, f32>,
    start: Start<'a, f32>,
    relu: bool,
}

/// The position of a tile in C, and of its chunk in the inner dimension.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    /// The number of rows of the tile that exist.
    high: usize,
    column: usize,
    first_chunk: bool,
    last_chunk: bool,
}

impl Task<'_> {
    /// The product with tiles of R rows and V vectors.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(&self, simd: S, out: &mut [f32]) {
        let Task { a, b, .. } = self;
        let (rows, inner, width) = (a.rows(), a.cols(), b.cols());
        if rows <= FEW && !a.transposed && !b.transposed {
            return self.few_rows::<S, R>(simd, out);
        }
        let panel_width = V * LANES;
        let mut strip = pool::Buffer::<f32>::new(R * STRIP);
        let copy = b.panels.filter(|panels| panels.width == panel_width);
        let room = match copy {
            Some(_) => 0,
            None => CHUNK.min(inner) * COLUMNS.min(width).next_multiple_of(panel_width),
        };
        let mut room = pool::Buffer::<f32>::new(room);
        for block in (0..width).step_by(COLUMNS) {
            let columns = COLUMNS.min(width - block);
            let padded = columns.next_multiple_of(panel_width);
            for first in (0..inner).step_by(CHUNK) {
                let depth = CHUNK.min(inner - first);
                let panels = match copy {
                    Some(copy) => &copy.data[block * inner + first * padded..][..depth * padded],
                    None => {
                        let room = &mut room[..depth * padded];
                        pack_panels::<S, V>(simd, room, depth, b, first, block);
                        room
                    }
                };
                let (panels, _) = panels.as_chunks::<LANES>().0.as_chunks::<V>();
                for row in (0..rows).step_by(R) {
                    let high = R.min(rows - row);
                    let place = |j: usize| Place {
                        row,
                        high,
                        column: block + j * panel_width,
                        first_chunk: first == 0,
                        last_chunk: first + depth == inner,
                    };
                    if a.transposed {
                        let strip = &mut strip.as_chunks_mut::<R>().0[..depth];
                        pack_columns(strip, a, first, row, high);
                        for (j, panel) in panels.chunks_exact(depth).enumerate() {
                            let strip = &*strip;
                            assert!(strip.len() == panel.len());
                            self.tiles(
                                simd,
                                panel,
                                #[inline(always)]
                                |i, p| strip[p][i.min(R - 1)],
                                out,
                                place(j),
                            );
                        }
                    } else {
                        let mut rows = [&[][..]; R];
                        for i in 0..R {
                            rows[i] = &a.stored(row + i.min(high - 1))[first..][..depth];
                        }
                        // Rows a power of two apart share cache lines: worth a copy if they are read often.
                        if columns >= WIDE {
                            let copies = strip.as_chunks_mut::<STRIP>().0;
                            for i in 0..high {
                                copies[i][..depth].copy_from_slice(rows[i]);
                            }
                            for i in 0..high {
                                rows[i] = &copies[i][..depth];
                            }
                        }
                        for (j, panel) in panels.chunks_exact(depth).enumerate() {
                            assert!(panel.len() == depth);
                            self.tiles(
                                simd,
                                panel,
                                #[inline(always)]
                                // SAFETY: each row of the strip has `depth` elements, as many as the panel has rows,
                                // and `tile` passes only indices of the panel's rows.
                                |i, p| unsafe { *rows[i.min(R - 1)].get_unchecked(p) },
                                out,
                                place(j),
                            );
                        }
                    }
                }
            }
        }
    }

    /// One tile, with the smallest compiled height that holds its rows.
    #[inline(always)]
    fn tiles<S: Simd, const V: usize>(
        &self,
        simd: S,
        panel: &[[Lanes; V]],
        a: impl Fn(usize, usize) -> f32,
        out: &mut [f32],
        place: Place,
    ) {
        match place.high {
            1 => self.tile::<S, 1, V>(simd, panel, a, out, place),
            2 => self.tile::<S, 2, V>(simd, panel, a, out, place),
            3..=4 => self.tile::<S, 4, V>(simd, panel, a, out, place),
            5..=6 => self.tile::<S, 6, V>(simd, panel, a, out, place),
            7..=9 => self.tile::<S, 9, V>(simd, panel, a, out, place),
            _ => self.tile::<S, 12, V>(simd, panel, a, out, place),
        }
    }

    /// The sums of H rows by V vectors over one chunk, added to C.
    #[inline(always)]
    fn tile<S: Simd, const H: usize, const V: usize>(
        &self,
        simd: S,
        panel: &[[Lanes; V]],
        a: impl Fn(usize, usize) -> f32,
        out: &mut [f32],
        place: Place,
    ) {
        let mut sums = [[f32x16::splat(simd, 0.0); V]; H];
        for (p, b) in panel.iter().enumerate() {
            let mut vectors = [f32x16::splat(simd, 0.0); V];
            for v in 0..V {
                vectors[v] = f32x16::from_slice(simd, &b[v]);
            }
            for i in 0..H {
                let x = f32x16::splat(simd, a(i, p));
                for v in 0..V {
                    sums[i][v] = x.mul_add_precise(vectors[v], sums[i][v]);
                }
            }
        }
        // Through memory, so that one short loop adds them for every kind of start.
        let mut tile = [[[0.0; LANES]; V]; H];
        for i in 0..H {
            for v in 0..V {
                sums[i][v].store_slice(&mut tile[i][v]);
            }
        }
        self.store(simd, &tile[..place.high], out, place);
    }

    /// Adds sums to the rows of a tile.
    #[inline(always)]
    fn store<S: Simd, const V: usize>(&self, simd: S, sums: &[[Lanes; V]], out: &mut [f32], place: Place) {
        let width = self.b.cols();
        let columns = (width - place.column).min(V * LANES);
        let zero = f32x16::splat(simd, 0.0);
        let bias = match self.start {
            Start::Bias(bias) if place.first_chunk => &bias[place.column..][..columns],
            _ => &[],
        };
        let overwrites = place.first_chunk && !matches!(self.start, Start::Sum);
        let relu = self.relu && place.last_chunk;
        for (i, sums) in sums.iter().enumerate() {
            let row = &mut out[(place.row + i) * width + place.column..][..columns];
            for v in 0..V {
                let from = (v * LANES).min(columns);
                let lanes = from..(from + LANES).min(columns);
                let start = match (overwrites, bias) {
                    (true, []) => zero,
                    (true, bias) => load(simd, &bias[lanes.clone()]),
                    _ => load(simd, &row[lanes.clone()]),
                };
                let mut sum = start + f32x16::from_slice(simd, &sums[v]);
                if relu {
                    sum = sum.simd_le(zero).select(zero, sum);
                }
                let out = &mut row[lanes];
                if out.len() == LANES {
                    sum.store_slice(out);
                } else {
                    out.copy_from_slice(&sum.as_slice()[..out.len()]);
                }
            }
        }
    }

    /// The product for few rows: B is not packed; as many columns as fit in the registers are read from each of its rows.
    #[inline(always)]
    fn few_rows<S: Simd, const R: usize>(&self, simd: S, out: &mut [f32]) {
        let (rows, inner, width) = (self.a.rows(), self.a.cols(), self.b.cols());
        for row in 0..rows {
            for first in (0..inner).step_by(CHUNK) {
                let place = |column| Place {
                    row,
                    high: 1,
                    column,
                    first_chunk: first == 0,
                    last_chunk: first + CHUNK >= inner,
                };
                let mut column = 0;
                while column < width {
                    // Several independent sums hide the latency of the multiply-add.
                    column += match width - column {
                        241.. if R == 12 => self.few_columns::<S, 16>(simd, first, out, place(column)),
                        113.. if R == 12 => self.few_columns::<S, 8>(simd, first, out, place(column)),
                        49.. => self.few_columns::<S, 4>(simd, first, out, place(column)),
                        17.. => self.few_columns::<S, 2>(simd, first, out, place(column)),
                        _ => self.few_columns::<S, 1>(simd, first, out, place(column)),
                    };
                }
            }
        }
    }

    /// The sums of one row by V vectors over one chunk, added to C; returns the number of columns.
    #[inline(always)]
    fn few_columns<S: Simd, const V: usize>(
        &self,
        simd: S,
        first: usize,
        out: &mut [f32],
        place: Place,
    ) -> usize {
        let columns = (self.b.cols() - place.column).min(V * LANES);
        let depth = CHUNK.min(self.a.cols() - first);
        let mut sums = [f32x16::splat(simd, 0.0); V];
        for (p, &x) in self.a.stored(place.row)[first..][..depth].iter().enumerate() {
            let x = f32x16::splat(simd, x);
            // Elements beyond the last column are summed as well, but not stored.
            let from = self.b.stored_from(first + p, place.column);
            if from.len() >= V * LANES {
                for v in 0..V {
                    let b = f32x16::from_slice(simd, &from[v * LANES..][..LANES]);
                    sums[v] = x.mul_add_precise(b, sums[v]);
                }
            } else {
                for (v, b) in from[..columns].chunks(LANES).enumerate() {
                    sums[v] = x.mul_add_precise(load(simd, b), sums[v]);
                }
            }
        }
        let mut tile = [[0.0; LANES]; V];
        for v in 0..V {
            sums[v].store_slice(&mut tile[v]);
        }
        self.store(simd, &[tile], out, place);
        columns
    }
}
