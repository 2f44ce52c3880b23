//! Serial or parallel loops that give the same bits either way.
//!
//! Nothing here starts a thread pool: with [`Par::Threads`] the caller has installed one. Every loop writes each
//! output once, so the number of threads decides only who computes a value, never what is added to what.

use rayon::prelude::*;

/// How a loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Par {
    /// In the calling thread.
    Serial,
    /// On the rayon pool that the caller installed.
    Threads,
}

/// Splits `out` at `bounds` (as many pieces as `bounds.len() - 1`, each `bounds[k]..bounds[k + 1]` of `out`) and
/// calls `f(k, piece)` for each.
pub fn for_pieces<T: Send>(par: Par, out: &mut [T], bounds: &[usize], f: impl Fn(usize, &mut [T]) + Sync) {
    let mut pieces = Vec::with_capacity(bounds.len());
    let mut rest = out;
    for (k, w) in bounds.windows(2).enumerate() {
        let (head, tail) = rest.split_at_mut(w[1] - w[0]);
        pieces.push((k, head));
        rest = tail;
    }
    match par {
        Par::Serial => pieces.into_iter().for_each(|(k, piece)| f(k, piece)),
        Par::Threads => pieces.into_par_iter().for_each(|(k, piece)| f(k, piece)),
    }
}

/// Cuts `0..n` into ranges of `step` and calls `f` with the start of each and its part of `out` (one item an index).
pub fn for_ranges<T: Send>(par: Par, out: &mut [T], step: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let step = step.max(1);
    match par {
        Par::Serial => f(0, out),
        Par::Threads => out.par_chunks_mut(step).enumerate().for_each(|(k, part)| f(k * step, part)),
    }
}

/// Cuts `0..n` items with cumulative weights `ends` (`ends[i]` = weight of items `..i`) into about `pieces` runs of
/// equal weight. Returns item bounds, first 0, last `n`.
#[must_use]
pub fn balanced(ends: &[usize], pieces: usize) -> Vec<usize> {
    let n = ends.len().saturating_sub(1);
    let total = ends.last().copied().unwrap_or(0);
    let mut bounds = vec![0];
    for p in 1..pieces.max(1) {
        let cut = ends.partition_point(|&e| e < total / pieces * p).min(n);
        if cut > bounds[bounds.len() - 1] {
            bounds.push(cut);
        }
    }
    if bounds[bounds.len() - 1] != n || n == 0 {
        bounds.push(n);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_covers_everything_once() {
        assert_eq!(balanced(&[0], 4), vec![0, 0]);
        assert_eq!(balanced(&[0, 5], 4), vec![0, 1]);
        assert_eq!(balanced(&[0, 1, 2, 3, 4], 2), vec![0, 2, 4]);
        assert_eq!(balanced(&[0, 0, 0, 9], 3), vec![0, 3]);
    }
}
