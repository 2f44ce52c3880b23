//! What the others have: mean and spread of the other members of each row's group.

use crate::error::Result;
use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};
use crate::real::{Real, sort_values};
use crate::reduce::{check_rows, gather, is_valid, mean};

/// Mean of the *other* valid members of the group of each row; NaN if there are none. A row that is not valid gets the
/// mean of all valid members.
///
/// # Errors
/// [`crate::Error::Length`] if `x` or `valid` does not have one item a row.
pub fn loo_mean<T: Real>(groups: &Groups, x: &[T], valid: Option<&[u8]>, par: Par) -> Result<Vec<f64>> {
    check_rows(groups, x.len(), valid)?;
    Ok(per_row(groups, x, valid, f64::NAN, par, |others| others.equal.unwrap_or(others.sum / others.n)))
}

/// Standard deviation of the *other* valid members of the group of each row: 0 if these are all equal, infinity (for
/// "none") where there are none.
pub(super) fn loo_std<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    ddof: u32,
    par: Par,
) -> Vec<f64> {
    per_row(groups, x, valid, f64::INFINITY, par, |others| match others.equal {
        Some(_) => 0.0,
        None if others.n > f64::from(ddof) => (others.squares / (others.n - f64::from(ddof))).sqrt(),
        None => f64::NAN,
    })
}

/// Statistics of the other members.
struct Others {
    n: f64,
    sum: f64,
    squares: f64,
    /// Their common value, if they have one.
    equal: Option<f64>,
}

/// `f` of the others of each row, or `none` where there are none.
///
/// Sums before and after a member in sorted order are merged (Chan et al. 1979). Taking the member's share out of the
/// sum over all would cancel where it is an outlier.
fn per_row<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    none: f64,
    par: Par,
    f: impl Fn(&Others) -> f64 + Sync,
) -> Vec<f64> {
    let pieces = if par == Par::Threads { 4 * rayon::current_num_threads() } else { 1 };
    let bounds = balanced(groups.offsets(), pieces);
    let cuts: Vec<usize> = bounds.iter().map(|&g| groups.offsets()[g]).collect();
    let mut by_slot = vec![none; x.len()];
    for_pieces(par, &mut by_slot, &cuts, |piece, part| {
        let (mut sorted, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for g in bounds[piece]..bounds[piece + 1] {
            gather(groups.rows(g), x, valid, &mut sorted);
            let all = sorted.len();
            sorted.retain(|v| !v.is_nan());
            let nans = all - sorted.len();
            sort_values(&mut sorted);
            running(sorted.iter(), &mut before);
            running(sorted.iter().rev(), &mut after);
            for (slot, &row) in groups.rows(g).iter().enumerate() {
                let member = is_valid(valid, row as usize).then(|| x[row as usize].wide() + 0.0);
                let out = &mut part[groups.offsets()[g] - cuts[piece] + slot];
                let lone_nan = nans == 1 && member.is_some_and(f64::is_nan);
                if nans > usize::from(lone_nan) {
                    *out = f64::NAN;
                } else if let Some(others) = others(&sorted, member.filter(|v| !v.is_nan()), &before, &after)
                {
                    *out = f(&others);
                }
            }
        }
    });
    let mut out = vec![none; x.len()];
    for (slot, &row) in groups.order().iter().enumerate() {
        out[row as usize] = by_slot[slot];
    }
    out
}

fn others(
    sorted: &[f64],
    member: Option<f64>,
    before: &[(f64, f64)],
    after: &[(f64, f64)],
) -> Option<Others> {
    let n = sorted.len();
    let Some(v) = member else {
        let equal = (n > 0 && sorted[0] == sorted[n - 1]).then(|| mean(sorted));
        return (n > 0).then(|| Others { n: n as f64, sum: before[n].0, squares: before[n].1, equal });
    };
    // Equal members have equal others, so the first of them stands for all.
    let i = sorted.partition_point(|s| *s < v).min(n - 1);
    let (first, last) = (usize::from(i == 0), if i == n - 1 { n.checked_sub(2)? } else { n - 1 });
    let (n1, n2) = (i as f64, (n - 1 - i) as f64);
    let ((sum1, squares1), (sum2, squares2)) = (before[i], after[n - 1 - i]);
    let between = if i == 0 || i == n - 1 {
        0.0
    } else {
        let d = sum1 / n1 - sum2 / n2;
        d * d * (n1 * n2 / (n1 + n2))
    };
    let equal = (sorted[first] == sorted[last]).then_some(sorted[first]);
    Some(Others { n: n1 + n2, sum: sum1 + sum2, squares: squares1 + squares2 + between, equal })
}

/// Sum and sum of squared deviations of the first 0, 1, 2, ... values (Welford 1962).
fn running<'a>(values: impl Iterator<Item = &'a f64>, into: &mut Vec<(f64, f64)>) {
    into.clear();
    let (mut sum, mut squares) = (0.0, 0.0);
    into.push((sum, squares));
    for (k, v) in values.enumerate() {
        let n = k as f64;
        if k > 0 {
            let d = v - sum / n;
            squares += d * d * (n / (n + 1.0));
        }
        sum += v;
        into.push((sum, squares));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_by_hand() {
        let groups = Groups::from_ids(&[0, 0, 0, 1, 2, 2]).unwrap();
        let x = [1.0, 0.0, 0.0, 5.0, 1e17, 1.0];
        let got = loo_mean(&groups, &x, None, Par::Serial).unwrap();
        assert_eq!(got[..3], [0.0, 0.5, 0.5]);
        assert!(got[3].is_nan());
        assert_eq!(got[4..], [1.0, 1e17]);
        let got = loo_mean(&groups, &x, Some(&[1, 1, 0, 0, 0, 0]), Par::Serial).unwrap();
        assert_eq!(got[..3], [0.0, 1.0, 0.5]);
        assert!(got[3..].iter().all(|v| v.is_nan()));
        let got = loo_mean(&groups, &[f64::NAN, 1.0, 3.0, f64::NAN, 2.0, 4.0], None, Par::Serial).unwrap();
        assert_eq!(got[0], 2.0);
        assert!(got[1].is_nan() && got[2].is_nan() && got[3].is_nan());
        assert_eq!(got[4..], [4.0, 2.0]);
    }

    #[test]
    fn an_outlier_does_not_cancel() {
        let groups = Groups::from_ids(&[0; 4]).unwrap();
        let got = loo_std(&groups, &[1.0, 2.0, 3.0, 1e9], None, 1, Par::Serial);
        assert_eq!(got[3], 1.0);
        let equal = loo_std(&groups, &[1.0, 0.7, 0.7, 0.7], None, 1, Par::Serial);
        assert_eq!(equal[0], 0.0);
    }
}
