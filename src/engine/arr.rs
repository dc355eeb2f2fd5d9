//! The array type of the engine: `ndarray`'s shared dynamic array, always contiguous and row-major.

use ndarray::{ArcArray, IxDyn};

use crate::engine::kernels::{self, elem::Elem, pool};

/// A shared array: cloning is free, and writing to a shared one copies it first.
pub type Arr<F> = ArcArray<F, IxDyn>;

/// An array with this shape and content, row-major.
///
/// # Panics
/// If the number of elements is not the product of the shape.
pub fn from_vec<F: Elem>(shape: &[usize], data: Vec<F>) -> Arr<F> {
    let len = data.len();
    Arr::from_shape_vec(IxDyn(shape), data)
        .unwrap_or_else(|_| panic!("{len} elements do not fill the shape {shape:?}"))
}

/// An array from the pool whose content is unspecified: the caller writes every element.
pub fn uninit<F: Elem>(shape: &[usize]) -> Arr<F> {
    from_vec(shape, pool::take(shape.iter().product()))
}

/// An array of one value.
pub fn full<F: Elem>(shape: &[usize], value: F) -> Arr<F> {
    let mut array = uninit(shape);
    data_mut(&mut array).fill(value);
    array
}

/// An array of zeros.
pub fn zeros<F: Elem>(shape: &[usize]) -> Arr<F> {
    full(shape, F::zero())
}

/// The elements in row-major order.
pub fn data<F>(array: &Arr<F>) -> &[F] {
    array.as_slice().expect("arrays of the engine are contiguous")
}

/// The elements in row-major order, to write to; copies first if the array is shared.
pub fn data_mut<F: Elem>(array: &mut Arr<F>) -> &mut [F] {
    array.as_slice_mut().expect("arrays of the engine are contiguous")
}

/// Returns the buffer to the pool if the array is not shared.
pub fn recycle<F: Elem>(array: Arr<F>) {
    if let Ok(owned) = array.try_into_owned_nocopy() {
        pool::give(owned.into_raw_vec_and_offset().0);
    }
}

/// `f(x)` for each element.
#[inline(always)]
pub fn map<F: Elem>(x: &Arr<F>, f: impl Fn(F) -> F + Sync) -> Arr<F> {
    let mut out = uninit(x.shape());
    kernels::map::map(data_mut(&mut out), data(x), f);
    out
}

/// `f(x, y)` for each pair of elements of two arrays of the same shape.
#[inline(always)]
pub fn zip<F: Elem>(x: &Arr<F>, y: &Arr<F>, f: impl Fn(F, F) -> F + Sync) -> Arr<F> {
    let mut out = uninit(x.shape());
    kernels::map::zip(data_mut(&mut out), data(x), data(y), f);
    out
}

/// `a + b`, computed in place in whichever of the two is not shared, if either.
pub fn sum<F: Elem>(a: Arr<F>, b: Arr<F>) -> Arr<F> {
    let (mine, other) = match b.try_into_owned_nocopy() {
        Ok(mine) => (Ok(mine), a),
        Err(b) => (a.try_into_owned_nocopy(), b),
    };
    match mine {
        Ok(mut mine) => {
            let slice = mine.as_slice_mut().expect("arrays of the engine are contiguous");
            kernels::map::update(
                slice,
                data(&other),
                #[inline(always)]
                |a, b| a + b,
            );
            recycle(other);
            mine.into_shared()
        }
        Err(mine) => zip(
            &mine,
            &other,
            #[inline(always)]
            |a, b| a + b,
        ),
    }
}
