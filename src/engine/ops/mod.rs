//! The differentiable operations, one file per family: an operation, its gradient, its method on `Var` and its
//! gradient check stand together. To add one, write its file and name it here: its module, and its checks.

use crate::engine::gradcheck::Check;

pub mod binary;
mod broadcast;
pub mod dropout;
pub mod elementwise;
pub mod erf;
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
        erf::checks(),
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

    #[test]
    fn every_gradient_check_passes() {
        let mut names = BTreeSet::new();
        for check in super::checks() {
            let report = (check.run)().unwrap();
            assert!(report.passed(), "{}: {report:?}", check.op);
            assert!(report.derivatives > 0, "{}: nothing was compared", check.op);
            names.insert(check.op);
        }
        assert!(names.contains("relu") && names.contains("attention"), "{names:?}");
    }
}
