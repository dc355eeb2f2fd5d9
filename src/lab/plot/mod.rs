//! Drawing charts as SVG text: the same input gives the same bytes.

pub mod axis;
pub mod canvas;
pub mod color;
pub mod frame;
pub mod heat;
pub mod intervals;
pub mod lines;
pub mod run;
pub mod schedules;

/// Whether `text` is one element in which every tag that opens also closes, in order, with no NaN or
/// infinity in it.
#[cfg(test)]
pub fn is_well_formed(text: &str) -> bool {
    let (mut open, mut roots, mut rest) = (Vec::new(), 0, text);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else { return false };
        let name = tag.trim_matches('/').split_whitespace().next().unwrap_or_default();
        let stray = before.contains('>') || (open.is_empty() && !before.trim().is_empty());
        if stray || tag.matches('"').count() % 2 == 1 {
            return false;
        }
        roots += usize::from(open.is_empty());
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = after;
    }
    open.is_empty() && roots == 1 && rest.trim().is_empty() && !text.contains("NaN") && !text.contains("inf")
}
