//! Reusable buffers: a free list per thread, so that the memory of a training step is allocated once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::thread::LocalKey;

/// Free buffers of one type, by capacity. Capacities are powers of two, so that lengths that vary a little between steps
/// share buffers.
pub type Free<T> = RefCell<BTreeMap<usize, Vec<Vec<T>>>>;

/// A type whose buffers are reused.
pub trait Pooled: Sized + Copy + 'static {
    /// The value of unwritten elements in debug builds: one that makes a kernel that reads them fail.
    const STALE: Self;
    /// The free list of this thread.
    fn free() -> &'static LocalKey<Free<Self>>;
}

macro_rules! pooled {
    ($t:ident, $stale:expr) => {
        impl Pooled for $t {
            const STALE: Self = $stale;
            fn free() -> &'static LocalKey<Free<Self>> {
                thread_local!(static FREE: Free<$t> = const { RefCell::new(BTreeMap::new()) });
                &FREE
            }
        }
    };
}

pooled!(f32, f32::NAN);
pooled!(f64, f64::NAN);

/// The most free buffers of one capacity.
const KEPT: usize = 64;

/// A buffer of `len` elements with arbitrary content: the caller must write each.
pub fn take<T: Pooled>(len: usize) -> Vec<T> {
    let capacity = len.next_power_of_two();
    let reused = T::free().with_borrow_mut(|free| free.get_mut(&capacity).and_then(Vec::pop));
    let mut buffer = reused.unwrap_or_else(|| Vec::with_capacity(capacity));
    if cfg!(debug_assertions) {
        buffer.clear();
    }
    buffer.resize(len, T::STALE);
    buffer
}

/// Returns a buffer to this thread's free list. A buffer that is not from [`take`] is freed.
pub fn give<T: Pooled>(buffer: Vec<T>) {
    let capacity = buffer.capacity();
    if !capacity.is_power_of_two() {
        return;
    }
    // A thread that is shutting down has no list any more; then the buffer is freed.
    let _ = T::free().try_with(|free| {
        let mut free = free.borrow_mut();
        let list = free.entry(capacity).or_default();
        if list.len() < KEPT {
            list.push(buffer);
        }
    });
}

/// A pooled buffer that returns itself to the free list when dropped.
#[derive(Debug)]
pub struct Buffer<T: Pooled>(Vec<T>);

impl<T: Pooled> Buffer<T> {
    /// A buffer of `len` elements with arbitrary content.
    pub fn new(len: usize) -> Buffer<T> {
        Buffer(take(len))
    }
}

impl<T: Pooled> Drop for Buffer<T> {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

impl<T: Pooled> std::ops::Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Pooled> std::ops::DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// Runs `work` with a scratch buffer of `len` elements of arbitrary content.
pub fn scratch<T: Pooled, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let mut buffer = take(len);
    let result = work(&mut buffer);
    give(buffer);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_reused() {
        f32::free().with_borrow_mut(BTreeMap::clear);
        let first = take::<f32>(1000);
        let address = first.as_ptr();
        give(first);
        let (other, again) = (take::<f32>(100), take::<f32>(999));
        assert_ne!(other.as_ptr(), address);
        assert_eq!((again.as_ptr(), again.len()), (address, 999));
        give(vec![0.0f32; 999]);
        assert!(f32::free().with_borrow(|free| !free.contains_key(&999)));
    }
}
