//! The spread of the others: leave-one-out standard deviations.

use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};
use crate::real::{Real, sort_values};
use crate::reduce::{gather, is_valid};

/// Standard deviation of the *other* valid members of the group of each row: 0 if these are all equal, infinity (for
/// "none") in a group without spread or others.
///
/// The sums of squares before and after a member in sorted order are merged (Chan et al. 1979). Taking the member's
/// share out of the sum of all squares would cancel where it is an outlier.
pub(super) fn loo_std<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    ddof: u32,
    par: Par,
) -> Vec<f64> {
    let bounds = balanced(
        groups.offsets(),
        if par == Par::Threads {
            4 * rayon::current_num_threads()
        } else {
            1
        },
    );
    let cuts: Vec<usize> = bounds.iter().map(|&g| groups.offsets()[g]).collect();
    let mut by_slot = vec![f64::INFINITY; x.len()];
    for_pieces(par, &mut by_slot, &cuts, |piece, part| {
        let (mut sorted, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for g in bounds[piece]..bounds[piece + 1] {
            gather(groups.rows(g), x, valid, &mut sorted);
            sort_values(&mut sorted);
            let n = sorted.len();
            if n < 2 || sorted[0] == sorted[n - 1] {
                continue;
            }
            running(sorted.iter(), &mut before);
            running(sorted.iter().rev(), &mut after);
            for (slot, &row) in groups.rows(g).iter().enumerate() {
                let v = x[row as usize].wide();
                let i = sorted.partition_point(|s| *s < v);
                if !is_valid(valid, row as usize) || i == n {
                    continue;
                }
                let ends_equal = (i == 0 && sorted[1] == sorted[n - 1])
                    || (sorted[0] == sorted[n - 2] && v == sorted[n - 1]);
                let std = match n - 1 {
                    _ if ends_equal => 0.0,
                    others if others <= ddof as usize => f64::NAN,
                    others => {
                        let ((m1, s1), (m2, s2)) = (before[i], after[n - 1 - i]);
                        let (n1, n2) = (i as f64, (n - 1 - i) as f64);
                        let between = (m1 - m2) * (m1 - m2) * (n1 * n2 / (n1 + n2));
                        ((s1 + s2 + between) / (others - ddof as usize) as f64).sqrt()
                    }
                };
                part[groups.offsets()[g] - cuts[piece] + slot] = std;
            }
        }
    });
    let mut out = vec![f64::INFINITY; x.len()];
    for (slot, &row) in groups.order().iter().enumerate() {
        out[row as usize] = by_slot[slot];
    }
    out
}

/// Mean and sum of squared deviations of the first 0, 1, 2, ... values (Welford 1962).
fn running<'a>(values: impl Iterator<Item = &'a f64>, into: &mut Vec<(f64, f64)>) {
    into.clear();
    let (mut mean, mut squares) = (0.0, 0.0);
    into.push((mean, squares));
    for (k, v) in values.enumerate() {
        let d = v - mean;
        mean += d / (k + 1) as f64;
        squares += d * (v - mean);
        into.push((mean, squares));
    }
}
