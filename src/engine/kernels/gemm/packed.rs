//! Matrices that many products share, copied once into the order in which products read them.

use super::Mat;
use crate::engine::kernels::{elem::Elem, par, pool, simd};

/// Right-hand matrices of one shape, and copies of some in the order in which products read them: for matrices that
/// many products share. The bits of products are the same with and without a copy.
#[derive(Debug)]
pub struct Packed<'a, E: Elem> {
    mats: Vec<Mat<'a, E>>,
    /// Of each matrix, if it has a copy.
    copied: Vec<bool>,
    copies: pool::Buffer<E>,
    panel_width: usize,
}

impl<'a, E: Elem> Packed<'a, E> {
    /// Copies those of `mats` that are `worth` it, on all threads.
    pub fn new(mats: Vec<Mat<'a, E>>, worth: impl Fn(usize) -> bool) -> Packed<'a, E> {
        let (columns, inner) = mats.first().map_or((0, 0), |mat| (mat.cols(), mat.rows()));
        // Looked up once, so that panels are of one kind even where a test changes it at the same time.
        let level = simd::level();
        let panel_width = E::panel_width(level, columns);
        let room = if panel_width == 0 { 0 } else { columns.next_multiple_of(panel_width) * inner };
        let copied: Vec<bool> = (0..mats.len()).map(|i| room > 0 && worth(i)).collect();
        let mut copies = pool::Buffer::new(if copied.contains(&true) { mats.len() * room } else { 0 });
        if !copies.is_empty() {
            par::chunks(&mut copies, room, |i, copy| {
                if copied[i] {
                    E::pack(level, copy, &mats[i]);
                }
            });
        }
        Packed { mats, copied, copies, panel_width }
    }

    /// One of the matrices, to be the right side of products as it is: its rows or its transpose have no copy.
    pub fn get(&self, i: usize) -> Mat<'_, E> {
        let room = self.copies.len() / self.mats.len();
        let panels = || Panels { data: &self.copies[i * room..][..room], width: self.panel_width };
        Mat { panels: self.copied[i].then(panels), ..self.mats[i] }
    }
}

/// A matrix's copy in the order in which products read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels<'a, E> {
    pub(super) data: &'a [E],
    /// Width of a panel. Instructions that read another use the matrix itself.
    pub(super) width: usize,
}
