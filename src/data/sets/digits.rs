//! The bundled digits: 1,797 handwritten digits of 8 x 8 pixels, compiled into the program.
//!
//! The split is fixed: of each class, in file order, every fifth example (the fifth, the tenth, ...) is in the test set
//! and all others in the training set. That makes 355 test and 1,442 training examples.

use crate::data::bundled::Bundled;
use crate::data::entry::{Contents, Entry, Source, Split};
use crate::data::images::Images;
use crate::engine::Result;

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "digits",
    about: "handwritten digits",
    contents: Contents::Images {
        classes: CLASSES,
        shape: [SIDE, SIDE, 1],
        counts: (1442, 355),
        read: |_| parse(&FILE.text()?),
    },
    batch: 32,
    epochs: 30,
    source: Source::Bundled(FILE),
    layouts: &[],
};

/// The file as scikit-learn ships it; `datasets/digits/README.md` says where it is from.
const FILE: Bundled = Bundled {
    name: "digits.csv.gz (bundled)",
    bytes: include_bytes!("../../../datasets/digits/digits.csv.gz"),
    md5: "9b335364a7bfd63947c7480a5bd51f2d",
};

const SIDE: usize = 8;
const CLASSES: usize = 10;
/// The value of a full pixel: the number of black dots in a 4 x 4 block.
const FULL: u8 = 16;
/// Of each class, one example in this many is in the test set.
const TEST_EVERY: usize = 5;

/// Parses lines of 64 pixel values and a label, and splits them.
fn parse(text: &str) -> Result<Split<Images>> {
    let (mut train, mut test) = (empty(), empty());
    let mut seen = [0; CLASSES];
    for (number, line) in (1..).zip(text.lines()) {
        let fail = |what: &str| FILE.damaged(format!("line {number}: {what}"));
        let mut values = Vec::with_capacity(SIDE * SIDE + 1);
        for field in line.split(',') {
            values.push(
                field
                    .parse::<u8>()
                    .map_err(|_| fail(&format!("`{field}` is not a whole number from 0 to 16")))?,
            );
        }
        let Some((&label, pixels)) = values.split_last().filter(|(_, pixels)| pixels.len() == SIDE * SIDE)
        else {
            return Err(fail(&format!("has {} values, but 64 pixels and a label are 65", values.len())));
        };
        if let Some(pixel) = pixels.iter().find(|&&pixel| pixel > FULL) {
            return Err(fail(&format!("pixel value {pixel} is above 16")));
        }
        let Some(count) = seen.get_mut(usize::from(label)) else {
            return Err(fail(&format!("label {label} is above 9")));
        };
        *count += 1;
        let split = if *count % TEST_EVERY == 0 { &mut test } else { &mut train };
        split.pixels.extend_from_slice(pixels);
        split.labels.push(label);
    }
    Ok((train, test))
}

fn empty() -> Images {
    Images { pixels: vec![], labels: vec![], height: SIDE, width: SIDE, channels: 1, scale: f32::from(FULL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(images: &Images) -> [usize; CLASSES] {
        let mut counts = [0; CLASSES];
        images.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    #[test]
    fn the_bundled_bytes_are_the_known_ones() {
        FILE.check().unwrap();
    }

    #[test]
    fn the_split_is_the_documented_one() {
        let (train, test) = parse(&FILE.text().unwrap()).unwrap();
        assert_eq!((train.len(), test.len()), (1442, 355));
        assert_eq!((train.pixels.len(), test.pixels.len()), (1442 * 64, 355 * 64));
        assert_eq!(counts(&test), [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]);
        assert_eq!(counts(&train), [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]);
        assert_eq!((train.height, train.width, train.channels, train.scale), (8, 8, 1, 16.0));
    }

    #[test]
    fn the_first_digit_is_the_first_line() {
        let (train, _) = parse(&FILE.text().unwrap()).unwrap();
        assert_eq!(train.labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(train.pixels[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(train.pixels.iter().max(), Some(&16));
    }

    #[test]
    fn every_fifth_of_a_class_is_in_the_test_set() {
        let line = |pixel: usize, label: usize| format!("{}{pixel},{label}\n", "0,".repeat(63));
        // Two classes alternate; each counts its own examples.
        let text: String = (0..12).map(|i| line(i, i % 2)).collect();
        let (train, test) = parse(&text).unwrap();
        let last = |images: &Images| images.pixels.chunks(64).map(|image| image[63]).collect::<Vec<_>>();
        assert_eq!((last(&test), last(&train)), (vec![8, 9], vec![0, 1, 2, 3, 4, 5, 6, 7, 10, 11]));
        assert_eq!(test.labels, [0, 1]);
    }

    #[test]
    fn malformed_lines_are_named() {
        let good = format!("{}3\n", "1,".repeat(64));
        let zeros = |count: usize| "0,".repeat(count);
        for (bad, told) in [
            (format!("{}3", zeros(63)), "line 2: has 64 values"),
            (format!("{}3", zeros(65)), "line 2: has 66 values"),
            (format!("{}17,3", zeros(63)), "line 2: pixel value 17"),
            (format!("{}10", zeros(64)), "line 2: label 10"),
            (format!("{}x,3", zeros(63)), "line 2: `x` is not a whole number"),
            (String::from("\n"), "line 2: `` is not a whole number"),
        ] {
            let line = parse(&format!("{good}{bad}")).unwrap_err().to_string();
            assert!(line.contains(told), "{line}");
        }
    }
}
