//! Matrices that many products share, copied once to the layout in which products read them.

use super::element::Gemm;
use super::mat::{Mat, Panels};
use crate::engine::kernels::{par, pool, simd};

/// Right-hand matrices of one shape, some with a copy in the layout in which products read them. A copy saves time if
/// many products share the matrix; it does not change their bits.
#[derive(Debug)]
pub struct Packed<'a, F: Gemm> {
    mats: Vec<Mat<'a, F>>,
    /// Whether each matrix has a copy.
    copied: Vec<bool>,
    copies: pool::Buffer<F>,
    panel_width: usize,
}

impl<'a, F: Gemm> Packed<'a, F> {
    /// Copies each `mats[i]` for which `worth(i)` holds, on all threads.
    pub fn new(mats: Vec<Mat<'a, F>>, worth: impl Fn(usize) -> bool) -> Packed<'a, F> {
        let (columns, inner) = mats.first().map_or((0, 0), |mat| (mat.cols(), mat.rows()));
        // Read once: all panels have one width even if a test changes the level at the same time.
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

    /// Matrix i as the right-hand side of products. A slice or the transpose of it does not use the copy.
    pub fn get(&self, i: usize) -> Mat<'_, F> {
        let room = self.copies.len() / self.mats.len();
        let panels = || Panels { data: &self.copies[i * room..][..room], width: self.panel_width };
        Mat { panels: self.copied[i].then(panels), ..self.mats[i] }
    }
}
