//! Everything that training changes, as named arrays and numbers; and its digest.

use crate::engine::arr::{self, Arr};
use crate::engine::kernels::{elem::Elem, par, simd::fast};
use crate::nn::optim::Optimizer;
use crate::nn::{Item, Module};

/// The state of a training: what a checkpoint holds and a digest covers.
#[derive(Clone, Debug)]
pub struct State<F: Elem> {
    /// Parameters in the model's order; then, with an optimizer, all first moments and all second.
    pub tensors: Vec<(String, Arr<F>)>,
    /// Running statistics; NaN for one without a value yet.
    pub numbers: Vec<(String, f64)>,
}

/// The name under which an optimizer's moment (`first` or `second`) of a parameter is kept.
pub fn moment(which: &str, parameter: &str) -> String {
    format!("optimizer.{which}.{parameter}")
}

impl<F: Elem> State<F> {
    /// Of a model, and its optimizer if given. The arrays are shared, not copied.
    pub fn of(model: &impl Module<F>, optimizer: Option<&Optimizer<F>>) -> State<F> {
        let (mut tensors, mut numbers) = (Vec::new(), Vec::new());
        for (name, item) in model.items() {
            match item {
                Item::Param(param) => tensors.push((name, param.value.clone())),
                Item::Buffer(number) => numbers.push((name, *number)),
            }
        }
        if let Some(Optimizer { first, second, .. }) = optimizer {
            let names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
            for (which, moments) in [("first", first), ("second", second)] {
                tensors.extend(names.iter().zip(moments).map(|(name, m)| (moment(which, name), m.clone())));
            }
        }
        State { tensors, numbers }
    }

    /// BLAKE3 as 64 hex digits. Hashed are, one after the other: for each array its name, a zero byte, the
    /// lengths of its axes, and the BLAKE3 hash of its elements; for each number its name, a zero byte, and
    /// itself. Lengths are 8 bytes, numbers f64, all little-endian; all NaNs count as equal.
    pub fn digest(&self) -> String {
        let mut hashes = vec![[0; blake3::OUT_LEN]; self.tensors.len()];
        par::chunks(&mut hashes, 1, |i, hash| hash[0] = hash_elements(arr::data(&self.tensors[i].1)));
        let mut all = blake3::Hasher::new();
        for ((name, array), hash) in self.tensors.iter().zip(&hashes) {
            all.update(name.as_bytes()).update(&[0]);
            for &length in array.shape() {
                all.update(&(length as u64).to_le_bytes());
            }
            all.update(hash);
        }
        for (name, number) in &self.numbers {
            let number = if number.is_nan() { f64::NAN } else { *number };
            all.update(name.as_bytes()).update(&[0]).update(&number.to_le_bytes());
        }
        all.finalize().to_hex().to_string()
    }
}

/// BLAKE3 of the little-endian bytes of `x`.
fn hash_elements<F: Elem>(x: &[F]) -> [u8; blake3::OUT_LEN] {
    /// Elements converted to bytes at a time: BLAKE3 takes 16 KiB at once with AVX-512, and this still fits in the
    /// second-level cache.
    const BLOCK: usize = 16 * 1024;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), vec![0; BLOCK.min(x.len()) * size_of::<F>()]);
    for block in x.chunks(BLOCK) {
        let bytes = &mut bytes[..size_of_val(block)];
        fast::<F, _>(
            #[inline(always)]
            || F::canonical_bytes(block, bytes),
        );
        hasher.update(bytes);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::optim::Settings;
    use crate::nn::{Init, Model};
    use crate::train::config::Config;

    fn state() -> State<f32> {
        let model = Model::new(&Config::default().spec(5, 3), &mut Init::new(1));
        let optimizer = Optimizer::new(Settings::ADAMW, &model);
        State { numbers: vec![("threshold".into(), 0.25)], ..State::of(&model, Some(&optimizer)) }
    }

    #[test]
    fn the_digest_is_the_documented_one_at_every_thread_count() {
        let state = state();
        let mut bytes = Vec::new();
        for (name, array) in &state.tensors {
            bytes.extend([name.as_bytes(), &[0]].concat());
            bytes.extend(array.shape().iter().flat_map(|&n| (n as u64).to_le_bytes()));
            let elements: Vec<u8> = arr::data(array).iter().flat_map(|v| v.to_le_bytes()).collect();
            bytes.extend(blake3::hash(&elements).as_bytes());
        }
        bytes.extend(b"threshold\0");
        bytes.extend(0.25f64.to_le_bytes());
        let expected = blake3::hash(&bytes).to_hex().to_string();
        assert!([1, 2, 8].into_iter().all(|n| par::with_threads(n, || state.digest()) == expected));
    }

    #[test]
    fn the_digest_sees_every_bit_and_one_kind_of_nan() {
        let (mut state, original) = (state(), state().digest());
        let last = state.tensors.len() - 1;
        for (tensor, element) in [(0, 0), (1, 7), (last, 2)] {
            let mut changed = state.clone();
            let x = &mut arr::data_mut(&mut changed.tensors[tensor].1)[element];
            *x = f32::from_bits(x.to_bits() ^ 1);
            assert_ne!(changed.digest(), original, "{tensor} {element}");
        }
        let digests = [f32::NAN, f32::from_bits(0xffc0_1234)].map(|nan| {
            arr::data_mut(&mut state.tensors[0].1)[3] = nan;
            state.digest()
        });
        assert_eq!(digests[0], digests[1]);
        assert_ne!(digests[0], original);
        state.numbers[0].1 = 0.5;
        assert_ne!(state.digest(), digests[0]);
    }
}
