//! The known data sets, one file each; [`super::catalog`] lists them.

pub mod cifar_10;
pub mod digits;
pub mod fashion_mnist;
pub mod mnist;
pub mod recycling_the_web;
pub mod tinyshakespeare;
pub mod wikitext_2;
