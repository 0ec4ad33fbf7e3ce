//! What the programs in `src/bin/` share: tables in Markdown, plots in SVG, and what a process has used.

pub mod plot;
pub mod table;
pub mod usage;

/// The value below which so many percent of the sorted ones are, in their unit; 0 of none.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile(&sorted, 50), 3.0);
        assert_eq!(percentile(&sorted, 99), 4.0);
        assert_eq!(percentile(&sorted, 0), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
