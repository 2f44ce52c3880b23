//! Groups worked on side by side, each on the slots of its rows in [`Groups::order`].

use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};

/// Calls `f(rows of a group, their results, scratch)` for every group, or once for all rows, and writes the result of
/// each row to `out`. The scratch is one per piece of work.
pub(super) fn for_slots<T: Copy + Default + Send, S: Default>(
    groups: Option<&Groups>,
    out: &mut [T],
    par: Par,
    f: impl Fn(&[u32], &mut [T], &mut S) + Sync,
) {
    let Some(groups) = groups else {
        let rows: Vec<u32> = (0..out.len() as u32).collect();
        return f(&rows, out, &mut S::default());
    };
    let pieces = if par == Par::Threads { 4 * rayon::current_num_threads() } else { 1 };
    let bounds = balanced(groups.offsets(), pieces);
    let cuts: Vec<usize> = bounds.iter().map(|&g| groups.offsets()[g]).collect();
    let run = |slots: &mut [T]| {
        for_pieces(par, slots, &cuts, |piece, mut part| {
            let mut scratch = S::default();
            for g in bounds[piece]..bounds[piece + 1] {
                let rows = groups.rows(g);
                let (own, rest) = part.split_at_mut(rows.len());
                f(rows, own, &mut scratch);
                part = rest;
            }
        });
    };
    // Nearly always, groups come one after another.
    if groups.order().iter().zip(0..).fold(true, |all, (&row, slot)| all & (row == slot)) {
        return run(out);
    }
    let mut slots = vec![T::default(); out.len()];
    run(&mut slots);
    for (&row, &result) in groups.order().iter().zip(&slots) {
        out[row as usize] = result;
    }
}
