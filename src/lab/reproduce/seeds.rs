//! Parsing lists of seeds: `1..5`, `1..=5` and `1,2,5`.

use std::collections::BTreeSet;
use std::str::FromStr;

/// Seeds in ascending order, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// The largest range; more is taken for a mistake.
const MOST: u64 = 1000;

impl FromStr for Seeds {
    type Err = String;

    /// Ranges include both ends: `1..3` is 1, 2 and 3, as is `1..=3`.
    fn from_str(text: &str) -> Result<Seeds, String> {
        let number = |text: &str| {
            let seed = text.trim().parse::<u64>().ok().filter(|&seed| i64::try_from(seed).is_ok());
            seed.ok_or_else(|| format!("`{text}` is not a seed; write 1..5 or 1,2,5"))
        };
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            match part.split_once("..") {
                None => drop(all.insert(number(part)?)),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?);
                    if first > last {
                        return Err(format!("`{part}` is an empty range; write the smaller seed first"));
                    }
                    if last - first >= MOST {
                        return Err(format!("`{part}` is more than {MOST} seeds; choose a smaller range"));
                    }
                    all.extend(first..=last);
                }
            }
        }
        Ok(Seeds(all.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_their_ends() {
        let seeds = |text: &str| text.parse::<Seeds>().map(|s| s.0);
        assert_eq!(seeds("1..3"), Ok(vec![1, 2, 3]));
        assert_eq!(seeds("1..=3"), Ok(vec![1, 2, 3]));
        assert_eq!(seeds("5, 1,2,2"), Ok(vec![1, 2, 5]));
        assert_eq!(seeds("1..2,7"), Ok(vec![1, 2, 7]));
        assert_eq!(seeds("4"), Ok(vec![4]));
        for bad in ["", "x", "1..", "..3", "3..1", "1,", "-1", "1..5000", "9223372036854775808", "1...3"] {
            let line = seeds(bad).unwrap_err();
            assert!(!line.contains('\n') && line.contains('`'), "{bad}: {line}");
        }
    }
}
