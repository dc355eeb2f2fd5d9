//! Named arrays in a safetensors file, which other frameworks read as well.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::files;

/// The only metadata key of the file (several would be written in random order and change its bytes).
const KEY: &str = "dynamoe";

/// An array as stored in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The element type.
    pub dtype: Dtype,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// Its elements, little-endian.
    bytes: Vec<u8>,
}

impl Tensor {
    /// An array of f32.
    pub fn f32(array: &Arr<f32>) -> Tensor {
        let bytes = arr::data(array).iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: Dtype::F32, shape: array.shape().to_vec(), bytes }
    }

    /// One f64 number.
    pub fn number(number: f64) -> Tensor {
        Tensor { dtype: Dtype::F64, shape: vec![], bytes: number.to_le_bytes().to_vec() }
    }

    /// Its value, if it is a single f64.
    pub fn to_number(&self) -> Option<f64> {
        let bytes = (self.dtype == Dtype::F64).then(|| self.bytes.as_slice().try_into().ok())??;
        Some(f64::from_le_bytes(bytes))
    }

    /// An array of integers.
    pub fn i64(shape: &[usize], numbers: impl Iterator<Item = i64>) -> Tensor {
        Tensor {
            dtype: Dtype::I64,
            shape: shape.to_vec(),
            bytes: numbers.flat_map(i64::to_le_bytes).collect(),
        }
    }

    /// An array of booleans.
    pub fn bool(shape: &[usize], values: impl Iterator<Item = bool>) -> Tensor {
        Tensor { dtype: Dtype::BOOL, shape: shape.to_vec(), bytes: values.map(u8::from).collect() }
    }

    /// Its elements, if they are f32.
    pub fn to_f32(&self) -> Option<Arr<f32>> {
        let numbers = || self.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        (self.dtype == Dtype::F32).then(|| arr::from_vec(&self.shape, numbers()))
    }

    /// Its elements as f32, if they are f32, f16 or bf16.
    pub fn widened(&self) -> Option<Arr<f32>> {
        let halves = || self.bytes.as_chunks().0.iter();
        let numbers = match self.dtype {
            Dtype::F16 => halves().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => halves().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            _ => return self.to_f32(),
        };
        Some(arr::from_vec(&self.shape, numbers))
    }

    /// Its elements, if they are integers.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let numbers = || self.bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect();
        (self.dtype == Dtype::I64).then(numbers)
    }
}

/// The content of a file.
#[derive(Debug)]
pub struct Content {
    /// The arrays by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The JSON header that this program wrote; `None` in a file from another program.
    pub header: Option<String>,
}

/// Whether an array of this shape can exist: the product of its nonzero axes does not overflow.
fn is_possible(shape: &[usize]) -> bool {
    let axes = shape.iter().filter(|&&axis| axis > 0);
    axes.copied().try_fold(8usize, usize::checked_mul).is_some_and(|bytes| bytes <= isize::MAX as usize)
}

/// Writes arrays under different names, and `header` beside them.
///
/// # Errors
/// The system's, and a header beyond the format's limit; an existing file is unchanged.
pub fn write(path: &Path, tensors: &[(String, Tensor)], header: String) -> Result<()> {
    let views = tensors.iter().map(|(name, Tensor { dtype, shape, bytes })| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape needs"))
    });
    let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), header)])));
    // The format's limit for the header: 100 MB.
    let file = file.map_err(|e| Error::data(path, format!("cannot be written as safetensors ({e})")))?;
    files::write(path, &file)
}

/// Reads a file; `what` names its kind in messages, such as `checkpoint`.
///
/// # Errors
/// A missing, truncated or foreign file, with its path.
pub fn read(path: &Path, what: &str) -> Result<Content> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let broken = |e: safetensors::SafeTensorError| Error::data(path, format!("not a usable {what} ({e})"));
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).cloned();
    if let Some((name, view)) = file.iter().find(|(_, view)| !is_possible(view.shape())) {
        let shape = view.shape();
        return Err(Error::data(
            path,
            format!("not a usable {what} ({name} has the impossible shape {shape:?})"),
        ));
    }
    let tensors = file.iter().map(|(name, view)| {
        let tensor =
            Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        (name.to_string(), tensor)
    });
    Ok(Content { tensors: tensors.collect(), header })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_array_of_endless_axes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let header =
            format!(r#"{{"a":{{"dtype":"F32","shape":[0,{},2],"data_offsets":[0,0]}}}}"#, 1u64 << 63);
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
        let line = read(&path, "checkpoint").unwrap_err().to_string();
        assert!(
            line.contains("not a usable checkpoint (a has the impossible shape [0, 9223372036854775808, 2])"),
            "{line}"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let numbers = arr::from_vec(&[2, 2], vec![1.5, -0.0, f32::MIN_POSITIVE, f32::INFINITY]);
        let tensors = [
            ("numbers".to_string(), Tensor::f32(&numbers)),
            ("classes".to_string(), Tensor::i64(&[3], [1, -2, i64::MAX].into_iter())),
            ("one".to_string(), Tensor::number(0.1)),
            ("chosen".to_string(), Tensor::bool(&[1, 2], [true, false].into_iter())),
        ];
        write(&path, &tensors, "{}".into()).unwrap();
        let Content { tensors: read, header } = read(&path, "file").unwrap();
        assert_eq!((read.len(), header.as_deref(), read["one"].to_number()), (4, Some("{}"), Some(0.1)));
        assert!(tensors.iter().all(|(name, tensor)| read[name] == *tensor));
        assert_eq!(read["numbers"].to_f32().unwrap(), numbers);
        assert_eq!(read["classes"].to_i64().unwrap(), [1, -2, i64::MAX]);
        assert_eq!((read["classes"].to_f32(), read["chosen"].to_i64()), (None, None));
    }

    #[test]
    fn damaged_files_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        write(&path, &[("x".to_string(), Tensor::f32(&arr::zeros(&[9])))], String::new()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for bytes in [&bytes[..bytes.len() - 1], &bytes[..4], b"no such file at all", b""] {
            std::fs::write(&path, bytes).unwrap();
            let line = read(&path, "thing").unwrap_err().to_string();
            assert!(line.contains("not a usable thing (") && line.lines().count() == 1, "{line}");
        }
    }
}
