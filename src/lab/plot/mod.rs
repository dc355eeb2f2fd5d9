//! Charts as SVG text; the same input gives the same bytes.
//!
//! Start with [`lines`] (charts of lines), [`heatmap`], [`intervals`] (means with error bars) or [`schedules`].
//! They draw with [`frame`] (axes and legend), [`axis`] (scales and ticks), [`color`], and the writer [`svg`].
//! [`run`] writes the pictures of a training run.

pub mod axis;
pub mod color;
pub mod frame;
pub mod heatmap;
pub mod intervals;
pub mod lines;
pub mod run;
pub mod schedules;
pub mod svg;

/// Asserts that `text` is well-formed XML in which every attribute is finite.
#[cfg(test)]
#[track_caller]
pub fn assert_well_formed(text: &str) {
    let document = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    for attribute in document.descendants().flat_map(|node| node.attributes()) {
        let value = attribute.value();
        assert!(!value.contains("NaN") && !value.contains("inf"), "{}={value:?}", attribute.name());
    }
}
