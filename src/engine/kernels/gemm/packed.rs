//! Matrices that many products share, copied once into the order in which products read them.

use super::Mat;
use crate::engine::kernels::{elem::Elem, par, pool, simd};

/// Right-hand matrices of one shape, and copies of some in the order in which products read them: for matrices that
/// many products share. The bits of products are the same with and without a copy.
#[derive(Debug)]
pub struct Packed<'a, F: Elem> {
    mats: Vec<Mat<'a, F>>,
    /// Of each matrix, if it has a copy.
    copied: Vec<bool>,
    copies: pool::Buffer<F>,
    panel_width: usize,
}

impl<'a, F: Elem> Packed<'a, F> {
    /// Copies those of `mats` that are `worth` it, on all threads.
    pub fn new(mats: Vec<Mat<'a, F>>, worth: impl Fn(usize) -> bool) -> Packed<'a, F> {
        let (columns, inner) = mats.first().map_or((0, 0), |mat| (mat.cols(), mat.rows()));
        // Looked up once, so that panels are of one kind even where a test changes it at the same time.
        let level = simd::level();
        let panel_width = F::panel_width(level, columns);
        let room = if panel_width == 0 { 0 } else { columns.next_multiple_of(panel_width) * inner };
        let copied: Vec<bool> = (0..mats.len()).map(|i| room > 0 && worth(i)).collect();
        let mut copies = pool::Buffer::new(if copied.contains(&true) { mats.len() * room } else { 0 });
        if !copies.is_empty() {
            par::chunks(&mut copies, room, |i, copy| {
                if copied[i] {
                    F::pack(level, copy, &mats[i]);
                }
            });
        }
        Packed { mats, copied, copies, panel_width }
    }

    /// One of the matrices, to be the right side of products as it is: its rows or its transpose have no copy.
    pub fn get(&self, i: usize) -> Mat<'_, F> {
        let room = self.copies.len() / self.mats.len();
        let panels = || Panels { data: &self.copies[i * room..][..room], width: self.panel_width };
        Mat { panels: self.copied[i].then(panels), ..self.mats[i] }
    }
}

/// A matrix's copy in the order in which products read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels<'a, F> {
    pub(super) data: &'a [F],
    /// Width of a panel. Instructions that read another use the matrix itself.
    pub(super) width: usize,
}
