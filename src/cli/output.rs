//! Printing: aligned tables, and output that does not mind a closed pipe.

use std::io::Write;

use anyhow::Result;

/// Rows as lines with aligned columns, two spaces apart.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Writes to standard output; a reader that has gone away is no error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// A whole number with its thousands apart: 403,484.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// How each layer used its experts, as a table.
pub fn layers(layers: &[crate::train::metrics::LayerRecord]) -> String {
    let head = ["layer", "experts", "mean active", "utilization", "usage entropy", "routing entropy"];
    let rows = layers.iter().enumerate().map(|(i, l)| {
        vec![
            (i + 1).to_string(),
            l.experts.to_string(),
            format!("{:.2}", l.mean_active),
            format!("{:.0}%", l.utilization),
            format!("{:.2} bits", l.usage_entropy_bits),
            format!("{:.2} bits", l.routing_entropy_bits),
        ]
    });
    table(&std::iter::once(head.map(String::from).to_vec()).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_and_columns() {
        assert_eq!(
            [0, 999, 1000, 403_484, 1_234_567].map(grouped),
            ["0", "999", "1,000", "403,484", "1,234,567"]
        );
        assert_eq!(
            table(&[vec!["a".into(), "b".into()], vec!["long".into(), "c".into()]]),
            "a     b\nlong  c\n"
        );
    }
}
