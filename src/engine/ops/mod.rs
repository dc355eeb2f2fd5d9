//! The differentiable operations, one file a family: an operation, its gradient, its method on `Var` and
//! its gradient check stand together. To add one, write it in one of these files and list its check in
//! that file's `checks`.

use crate::engine::gradcheck::Check;

pub mod binary;
mod broadcast;
pub mod dropout;
pub mod fused;
pub mod index;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod reduce;
pub mod shape;
pub mod softmax;
pub mod unary;

/// The gradient check of every shipped operation, in the order of the files.
pub fn checks() -> Vec<Check> {
    [
        unary::checks(),
        binary::checks(),
        matmul::checks(),
        shape::checks(),
        index::checks(),
        reduce::checks(),
        softmax::checks(),
        norm::checks(),
        dropout::checks(),
        loss::checks(),
        fused::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every `const NAME: &'static str = "..."` in the sources below a folder.
    fn names_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names_in(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for line in
                text.lines().filter(|line| line.trim_start().starts_with("const NAME: &'static str = \""))
            {
                names.insert(line.split('"').nth(1).unwrap().to_string());
            }
        }
    }

    #[test]
    fn every_operation_has_a_gradient_check_and_passes_it() {
        let mut names = BTreeSet::new();
        names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops"), &mut names);
        let mut checked = BTreeSet::new();
        for check in super::checks() {
            let report = (check.run)().unwrap();
            assert!(report.passed(), "{}: {report:?}", check.op);
            assert!(report.derivatives > 0, "{}: nothing was compared", check.op);
            checked.insert(check.op.to_string());
        }
        assert_eq!(names, checked);
    }
}
