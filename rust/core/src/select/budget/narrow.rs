//! Numbers of rollouts that no best allocation has: the dynamic program need not look at them.
//!
//! Put a price on rollouts. A row then loses at `k` rollouts what they are worth less, after the price, than its best
//! number. All allocations of the budget pay the same, so that what the rows of a best one lose together is no more
//! than what those of any other lose; and a row that loses as much on its own is in no best one. Any price is right.
//! That at which the upper hulls of the rows spend the budget leaves next to nothing of rows that are nearly concave.

use std::ops::Range;

/// Part of the upper hull of a row.
struct Edge {
    slope: f64,
    row: usize,
    from: usize,
    to: usize,
}

/// For each row, a range in which each best allocation of `left` rollouts has its number.
pub(super) fn narrow(rows: &[&[f64]], left: usize) -> Vec<Range<usize>> {
    let all = || rows.iter().map(|row| 0..row.len()).collect();
    let mut edges = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        hull(i, row, &mut edges);
    }
    // Stable, and no edge of a row is steeper than the one before: those of a row stay in their order.
    edges.sort_by(|a, b| b.slope.total_cmp(&a.slope));
    let (mut counts, mut rest, mut price) = (vec![0; rows.len()], left, 0.0);
    for edge in &edges {
        price = edge.slope;
        let taken = rest.min(edge.to - edge.from);
        counts[edge.row] += taken;
        rest -= taken;
        if rest == 0 {
            break;
        }
    }
    let worth = |v: f64, k: usize| v - price * k as f64;
    let best: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().enumerate().map(|(k, &v)| worth(v, k)).fold(f64::NEG_INFINITY, f64::max))
        .collect();
    // Twice what rounding may do to all losses: an optimum is never left out, nor one of several.
    let (mut most, mut slack) = (0.0, 0.0);
    for ((row, &best), &k) in rows.iter().zip(&best).zip(&counts) {
        let largest = row.iter().filter(|v| v.is_finite()).fold(0.0, |most: f64, v| most.max(v.abs()));
        most += best - worth(row[k], k);
        slack += 16.0 * f64::EPSILON * (largest + price.abs() * row.len() as f64);
    }
    let bound = (most + slack) * (1.0 + 1e-6);
    // Not so if the number that is left for the last row is not allowed, or where values are too large.
    if rest > 0 || !bound.is_finite() {
        return all();
    }
    let kept = |(row, &best): (&&[f64], &f64)| {
        let may = |(k, &v): (usize, &f64)| best - worth(v, k) <= bound;
        let first = row.iter().enumerate().position(may).unwrap_or(0);
        let last = row.iter().enumerate().rposition(may).unwrap_or(row.len() - 1);
        first..last + 1
    };
    rows.iter().zip(&best).map(kept).collect()
}

/// Appends the edges of the least concave function that is nowhere below the row, from its first number to its last.
fn hull(i: usize, row: &[f64], edges: &mut Vec<Edge>) {
    let start = edges.len();
    let mut from = 0;
    for (to, &v) in row.iter().enumerate().skip(1) {
        if v.is_nan() || v == f64::NEG_INFINITY {
            continue;
        }
        let slope = |from: usize| (v - row[from]) / (to - from) as f64;
        while edges.len() > start && edges.last().is_some_and(|last| last.slope <= slope(from)) {
            from = edges.pop().map_or(0, |last| last.from);
        }
        // What rounding has bent back.
        let slope = edges[start..].last().map_or(slope(from), |last| slope(from).min(last.slope));
        edges.push(Edge { slope, row: i, from, to });
        from = to;
    }
}
