//! Reductions over the groups of a [`Groups`]: one number a group, in float64.
//!
//! The members of a group are sorted by value before they are summed. That makes every result a function of the
//! multiset of values alone, so that permuting rows changes no bit. Variance is two-pass with the usual correction
//! for the rounding of the mean.

use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};
use crate::real::{Real, sort_values};

/// What to compute for each group; `n` counts its valid members, of which there may be none.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Number of valid members.
    Count,
    /// Sum; 0 for an empty group.
    Sum,
    /// Arithmetic mean; NaN for an empty group. Exactly the common value if all are equal.
    Mean,
    /// Variance with denominator `n - ddof`; NaN if that is not positive. Exactly 0 if all are equal.
    Var { ddof: u32 },
    /// Smallest member; NaN for an empty group.
    Min,
    /// Largest member; NaN for an empty group.
    Max,
    /// Quantile `q` in [0, 1]; NaN for an empty group.
    Quantile { q: f64, method: QuantileMethod },
    /// `log(mean(exp(beta x))) / beta`; NaN for an empty group.
    LogMeanExp { beta: f64 },
}

/// How a quantile between two members is chosen; names and formulas are those of `numpy.quantile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum QuantileMethod {
    InvertedCdf,
    Lower,
    Higher,
    Nearest,
    Midpoint,
    Linear,
    Hazen,
    Weibull,
    MedianUnbiased,
    NormalUnbiased,
}

/// One `f64` a group. `valid` (nonzero = takes part) may leave rows out.
///
/// # Errors
/// [`Error::Length`] if `x` or `valid` does not have one item a row, [`Error::Range`] for a bad parameter.
pub fn reduce<T: Real>(
    groups: &Groups,
    x: &[T],
    valid: Option<&[u8]>,
    what: Reduction,
    par: Par,
) -> Result<Vec<f64>> {
    check_rows(groups, x.len(), valid)?;
    check_reduction(what)?;
    let mut out = vec![0.0; groups.n_groups()];
    for_groups(groups, &mut out, par, |g, slot, members| {
        gather(groups.rows(g), x, valid, members);
        sort_values(members);
        *slot = one(members, what);
    });
    Ok(out)
}

/// Weighted mean `sum(w x) / sum(w)` of each group; NaN where the weights sum to 0.
///
/// # Errors
/// [`Error::Length`] for a wrong length, [`Error::Range`] for a negative or non-finite weight.
pub fn weighted_mean<T: Real>(
    groups: &Groups,
    x: &[T],
    weights: &[f64],
    valid: Option<&[u8]>,
    par: Par,
) -> Result<Vec<f64>> {
    check_rows(groups, x.len(), valid)?;
    check_len("weights", weights.len(), x.len(), "the number of rows")?;
    if let Some(i) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        let got = format!("{} at index {i}", weights[i]);
        return Err(Error::Range { arg: "weights", expected: "finite and not negative".into(), got });
    }
    let mut out = vec![0.0; groups.n_groups()];
    for_groups(groups, &mut out, par, |g, slot, _| {
        let keep = |&&r: &&u32| is_valid(valid, r as usize);
        let rows = groups.rows(g).iter().filter(keep);
        let mut pairs: Vec<(f64, f64)> =
            rows.map(|&r| (x[r as usize].wide() + 0.0, weights[r as usize])).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let total: f64 = pairs.iter().map(|p| p.1).sum();
        // A weight of zero takes its row out, also where the value is not finite.
        let sum: f64 = pairs.iter().filter(|p| p.1 > 0.0).map(|p| p.0 * p.1).sum();
        let same = pairs.iter().all(|p| p.0 == pairs[0].0);
        *slot = if total > 0.0 && same { pairs[0].0 } else { sum / total };
    });
    Ok(out)
}

/// Calls `f(group, its slot of out, scratch)` for every group; the scratch vector is one per thread of work.
pub(crate) fn for_groups<S: Send>(
    groups: &Groups,
    out: &mut [S],
    par: Par,
    f: impl Fn(usize, &mut S, &mut Vec<f64>) + Sync,
) {
    let bounds = match par {
        Par::Serial => vec![0, groups.n_groups()],
        Par::Threads => balanced(groups.offsets(), 4 * rayon::current_num_threads()),
    };
    for_pieces(par, out, &bounds, |piece, slots| {
        let mut scratch = Vec::new();
        for (k, slot) in slots.iter_mut().enumerate() {
            f(bounds[piece] + k, slot, &mut scratch);
        }
    });
}

pub(crate) fn check_rows(groups: &Groups, n: usize, valid: Option<&[u8]>) -> Result<()> {
    check_len("x", n, groups.len(), "len(groups)")?;
    valid.map_or(Ok(()), |v| check_len("valid", v.len(), groups.len(), "len(groups)"))
}

pub(crate) fn is_valid(valid: Option<&[u8]>, row: usize) -> bool {
    valid.is_none_or(|v| v[row] != 0)
}

/// The valid members of a group. Adding zero turns -0 into 0, so that equal members are equal bits.
pub(crate) fn gather<T: Real>(rows: &[u32], x: &[T], valid: Option<&[u8]>, into: &mut Vec<f64>) {
    into.clear();
    let value = |&r: &u32| x[r as usize].wide() + 0.0;
    match valid {
        None => into.extend(rows.iter().map(value)),
        Some(v) => into.extend(rows.iter().filter(|&&r| v[r as usize] != 0).map(value)),
    }
}

/// Mean of sorted values; the common value if all are equal.
pub(crate) fn mean(sorted: &[f64]) -> f64 {
    match sorted {
        [] => f64::NAN,
        [first, .., last] if first == last => *first,
        _ => sorted.iter().sum::<f64>() / sorted.len() as f64,
    }
}

/// Sum of squared deviations from `mean`, corrected for the rounding of the mean.
pub(crate) fn sum_squares(sorted: &[f64], mean: f64) -> f64 {
    if let [first, .., last] = sorted
        && first == last
    {
        return 0.0;
    }
    let (mut squares, mut rest) = (0.0, 0.0);
    for x in sorted {
        let d = x - mean;
        squares += d * d;
        rest += d;
    }
    let squares = squares - rest * rest / sorted.len() as f64;
    // Not `max`, which would turn the NaN of an infinite member into 0.
    if squares < 0.0 { 0.0 } else { squares }
}

fn check_reduction(what: Reduction) -> Result<()> {
    let range = |arg, expected: &str, got: f64| {
        Err(Error::Range { arg, expected: expected.into(), got: got.to_string() })
    };
    match what {
        Reduction::Quantile { q, .. } if !(0.0..=1.0).contains(&q) => range("q", "in [0, 1]", q),
        Reduction::LogMeanExp { beta } if !beta.is_finite() || beta == 0.0 => {
            range("beta", "finite and not 0", beta)
        }
        _ => Ok(()),
    }
}

fn one(sorted: &[f64], what: Reduction) -> f64 {
    let n = sorted.len();
    match what {
        Reduction::Count => n as f64,
        // One bit pattern for NaN, whichever came first.
        _ if sorted.iter().any(|x| x.is_nan()) => f64::NAN,
        Reduction::Sum => sorted.iter().fold(0.0, |sum, x| sum + x),
        Reduction::Mean => mean(sorted),
        Reduction::Var { ddof } if n > ddof as usize => {
            sum_squares(sorted, mean(sorted)) / (n - ddof as usize) as f64
        }
        Reduction::Var { .. } => f64::NAN,
        _ if n == 0 => f64::NAN,
        Reduction::Min => sorted[0],
        Reduction::Max => sorted[n - 1],
        Reduction::Quantile { q, method } => quantile(sorted, q, method),
        Reduction::LogMeanExp { beta } => log_mean_exp(sorted, beta),
    }
}

/// `log(mean(exp(beta x))) / beta` of sorted values; exactly the common value if all are equal.
pub(crate) fn log_mean_exp(sorted: &[f64], beta: f64) -> f64 {
    let (lo, hi) = (sorted[0], sorted[sorted.len() - 1]);
    let n = sorted.len() as f64;
    // The largest of beta * x, taken out so that no exponential overflows.
    let top = if beta > 0.0 { hi } else { lo };
    if lo == hi || top.is_infinite() {
        return top;
    }
    let (center, reach) = (mean(sorted), beta.abs() * (hi - lo));
    if reach < 1e-17 {
        // All further terms of the series in beta round away.
        center
    } else if reach < 0.5 {
        // Logarithms near 1 would lose what distinguishes the result from the mean.
        let sum: f64 = sorted.iter().map(|x| (beta * (x - center)).exp_m1()).sum();
        center + (sum / n).ln_1p() / beta
    } else {
        let sum: f64 = sorted.iter().map(|x| (beta * (x - top)).exp()).sum();
        top + (sum / n).ln() / beta
    }
}

fn quantile(sorted: &[f64], q: f64, method: QuantileMethod) -> f64 {
    use QuantileMethod as Q;
    let n = sorted.len() as f64;
    // Position of the quantile, counted from 0, as in Hyndman and Fan (1996).
    let place = |alpha: f64, beta: f64| n * q + (alpha + q * (1.0 - alpha - beta)) - 1.0;
    let linear = (n - 1.0) * q;
    let at = |p: f64| sorted[p.clamp(0.0, n - 1.0) as usize];
    let between = |p: f64| {
        let (a, b, t) = (at(p.floor()), at(p.floor() + 1.0), (p.clamp(0.0, n - 1.0)).fract());
        if a == b { a } else { a + (b - a) * t }
    };
    match method {
        Q::InvertedCdf => at((n * q).ceil() - 1.0),
        Q::Lower => at(linear.floor()),
        Q::Higher => at(linear.ceil()),
        Q::Nearest => at(linear.round_ties_even()),
        Q::Midpoint => {
            let (a, b) = (at(linear.floor()), at(linear.ceil()));
            if a == b { a } else { 0.5 * (a + b) }
        }
        Q::Linear => between(linear),
        Q::Hazen => between(place(0.5, 0.5)),
        Q::Weibull => between(place(0.0, 0.0)),
        Q::MedianUnbiased => between(place(1.0 / 3.0, 1.0 / 3.0)),
        Q::NormalUnbiased => between(place(0.375, 0.375)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups(ids: &[i64]) -> Groups {
        Groups::from_ids(ids).unwrap()
    }

    #[test]
    fn empty_groups_and_single_members() {
        let g = groups(&[0, 0, 1]);
        let x = [2.0, 4.0, 5.0];
        let run = |valid: Option<&[u8]>, what| reduce(&g, &x, valid, what, Par::Serial).unwrap();
        assert_eq!(run(None, Reduction::Mean), [3.0, 5.0]);
        assert_eq!(run(None, Reduction::Var { ddof: 1 })[0], 2.0);
        assert!(run(None, Reduction::Var { ddof: 1 })[1].is_nan());
        assert_eq!(run(Some(&[0, 2, 0]), Reduction::Count), [1.0, 0.0]);
        assert_eq!(run(Some(&[0, 2, 0]), Reduction::Sum), [4.0, 0.0]);
        assert!(run(Some(&[0, 2, 0]), Reduction::Max)[1].is_nan());
    }

    #[test]
    fn quantiles_by_hand() {
        let x = [0.1, 0.2, 0.3, 0.4, 0.5];
        assert_eq!(quantile(&x, 0.4, QuantileMethod::InvertedCdf), 0.2);
        assert!((quantile(&x, 0.4, QuantileMethod::Linear) - 0.26).abs() < 1e-15);
    }

    #[test]
    fn log_mean_exp_goes_from_mean_to_maximum() {
        let x = [0.0, 1.0, 2.0];
        for beta in [5e-324, 1e-300, 1e-14, 1e-9] {
            assert!((log_mean_exp(&x, beta) - 1.0).abs() < 1e-9);
            assert!((log_mean_exp(&x, -beta) - 1.0).abs() < 1e-9);
        }
        // The three branches meet.
        let direct = |b: f64| (x.iter().map(|v| (b * v).exp()).sum::<f64>() / 3.0).ln() / b;
        for beta in [0.2, 0.249, 0.251, 1.0] {
            assert!((log_mean_exp(&x, beta) - direct(beta)).abs() < 1e-14);
        }
        assert!((log_mean_exp(&x, 1e3) - 2.0).abs() < 2e-3);
    }

    #[test]
    fn constant_values_have_their_own_mean_and_no_variance() {
        let x = vec![0.7; 12];
        let g = groups(&[3; 12]);
        assert_eq!(reduce(&g, &x, None, Reduction::Mean, Par::Serial).unwrap(), [0.7]);
        assert_eq!(reduce(&g, &x, None, Reduction::Var { ddof: 1 }, Par::Serial).unwrap(), [0.0]);
    }

    proptest! {
        #[test]
        fn permuting_rows_changes_no_bit(x in prop::collection::vec(-1e6f64..1e6, 1..60), turn in 0usize..60) {
            let ids: Vec<i64> = (0..x.len() as i64).map(|i| i % 3).collect();
            let n = x.len();
            let turned: Vec<usize> = (0..n).map(|i| (i + turn) % n).collect();
            let (y, ids2): (Vec<f64>, Vec<i64>) = turned.iter().map(|&i| (x[i], ids[i])).unzip();
            let a = Groups::from_ids(&ids).unwrap();
            let b = Groups::from_ids(&ids2).unwrap();
            for what in [Reduction::Sum, Reduction::Mean, Reduction::Var { ddof: 0 }, Reduction::LogMeanExp { beta: 0.3 }] {
                let p = reduce(&a, &x, None, what, Par::Serial).unwrap();
                let q = reduce(&b, &y, None, what, Par::Threads).unwrap();
                for row in 0..n {
                    let before = p[a.index()[turned[row]] as usize];
                    prop_assert_eq!(before.to_bits(), q[b.index()[row] as usize].to_bits());
                }
            }
        }
    }
}
