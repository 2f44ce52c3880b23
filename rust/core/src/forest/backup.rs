//! Discounted values: what a node gives, and the best or the mean of what comes after it.

use super::Forest;
use super::fold::{Children, fold};
use crate::error::Result;
use crate::par::Par;
use crate::real::{Real, sort_values};
use crate::reduce::mean;

/// What a node takes of its children's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backup {
    /// The largest; NaN if one is NaN.
    Max,
    /// Their mean, over sorted values; NaN if one is NaN.
    Mean,
}

/// `q(v) = x(v) + gamma b(q(c))` over the children `c` (to `out`, by id), and `x(v)` at leaves; accumulated in float64.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` or `out` is not of one value a node.
pub fn backup<T: Real>(
    forest: &Forest,
    x: &[T],
    gamma: f64,
    how: Backup,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    forest.check_nodes("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    let at = |place: usize| x[forest.order[place] as usize].wide() + 0.0;
    let join = || {
        let mut values = Vec::new();
        move |place: usize, below: Children<'_, f64>| {
            let after = match how {
                Backup::Max => {
                    below.copied().fold(f64::NEG_INFINITY, |a, q| if a >= q || a.is_nan() { a } else { q })
                }
                Backup::Mean => {
                    values.clear();
                    values.extend(below.copied());
                    sorted_mean(&mut values)
                }
            };
            at(place) + gamma * after
        }
    };
    fold(forest, |place, _| at(place), join, |q| q, out, par);
    Ok(())
}

fn sorted_mean(x: &mut [f64]) -> f64 {
    if x.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    sort_values(x);
    mean(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T: Real>(f: &Forest, x: &[T], how: Backup, par: Par) -> Vec<f64> {
        let mut out = vec![T::narrow(0.0); x.len()];
        backup(f, x, 0.5, how, &mut out, par).unwrap();
        out.iter().map(|q| q.wide()).collect()
    }

    #[test]
    fn best_and_mean_of_what_follows() {
        // Ids are no preorder.
        let f = Forest::from_parents(&[3, 3, 1, -1, 1], None).unwrap();
        let x = [1.0f32, 0.5, 2.0, 0.25, 4.0];
        for par in [Par::Serial, Par::Threads] {
            assert_eq!(run(&f, &x, Backup::Max, par), [1.0, 2.5, 2.0, 1.5, 4.0]);
            assert_eq!(run(&f, &x, Backup::Mean, par), [1.0, 2.0, 2.0, 1.0, 4.0]);
        }
        let x = [f64::NAN, 0.5, 2.0, 0.25, 4.0];
        let best = run(&f, &x, Backup::Max, Par::Serial);
        assert!(best[3].is_nan() && best[1] == 2.5);
        assert!(backup(&f, &x[1..], 0.5, Backup::Max, &mut [0.0; 5], Par::Serial).is_err());
    }
}
