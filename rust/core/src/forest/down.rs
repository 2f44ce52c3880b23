//! Downward passes: along the paths from the roots to the nodes, and one step from parents to children.

use std::ops::Range;

use super::fold::{Pass, by_node, carry};
use super::{Forest, NONE, weighted};
use crate::error::Result;
use crate::par::{Par, for_ranges};
use crate::real::Real;

/// What a node takes from the nodes between its root and itself, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Their sum.
    Sum,
    /// Their mean; exactly the common value if all are equal.
    Mean,
    /// The largest; NaN if one is NaN.
    Max,
    /// The smallest; NaN if one is NaN.
    Min,
    /// The value nearest to the node that is not NaN; NaN if there is none.
    Last,
}

/// One value a node (to `out`, by id) from those on its path from the root; accumulated in float64.
///
/// With `weights`, one a node, a sum is that of `w x`, and a mean is divided by the sum of `w`: exactly the common value
/// if all that weigh are equal, NaN if nothing weighs. What has weight 0 is not looked at. Other folds take none.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` or `weights` is not of one value a node,
/// [`Error::Range`](crate::Error::Range) for a weight that is negative or not finite.
pub fn down<T: Real>(
    forest: &Forest,
    x: &[T],
    how: Down,
    weights: Option<&[f64]>,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    forest.check_nodes("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    if let Some(weights) = weights.map(|w| weighted::check(forest, w)).transpose()?.flatten()
        && matches!(how, Down::Sum | Down::Mean)
    {
        down_weighted(forest, x, how, weights, out, par);
        return Ok(());
    }
    let at = |node: usize| x[node].wide() + 0.0;
    let mut run = |step: fn(f64, f64) -> f64| {
        carry(forest, at, |above, v| step(above, at(v)), |value| value, out, par);
    };
    match how {
        Down::Sum => run(|above, x| above + x),
        Down::Max => run(|above, x| if x > above || x.is_nan() { x } else { above }),
        Down::Min => run(|above, x| if x < above || x.is_nan() { x } else { above }),
        Down::Last => run(|above, x| if x.is_nan() { above } else { x }),
        Down::Mean => {
            // Their sum, their number, and the value that all so far have had, or NaN.
            let step = |(sum, n, same): (f64, f64, f64), v| {
                (sum + at(v), n + 1.0, if at(v) == same { same } else { f64::NAN })
            };
            let mean = |(sum, n, same): (f64, f64, f64)| if same.is_nan() { sum / n } else { same };
            carry(forest, |v| (at(v), 1.0, at(v)), step, mean, out, par);
        }
    }
    Ok(())
}

fn down_weighted<T: Real>(forest: &Forest, x: &[T], how: Down, weights: &[f64], out: &mut [T], par: Par) {
    // The sum, the sum of the weights, and the value that all so far have had, or NaN.
    let step = |(sum, total, same): (f64, f64, f64), v: usize| {
        let (w, x) = (weights[v], x[v].wide() + 0.0);
        match w > 0.0 {
            false => (sum, total, same),
            true if total > 0.0 => (sum + w * x, total + w, if x == same { same } else { f64::NAN }),
            true => (w * x, w, x),
        }
    };
    let last = |(sum, total, same): (f64, f64, f64)| match how {
        Down::Sum => sum,
        _ if total > 0.0 && same.is_nan() => sum / total,
        _ if total > 0.0 => same,
        _ => f64::NAN,
    };
    carry(forest, |v| step((0.0, 0.0, f64::NAN), v), step, last, out, par);
}

/// The value of each node's parent (to `out`, by id); `root` for roots.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn parent_values<T: Copy + Send + Sync>(
    forest: &Forest,
    x: &[T],
    root: T,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    forest.check_nodes("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    for_ranges(par, out, 16_384, |start, part| {
        for (slot, &parent) in part.iter_mut().zip(&forest.parents[start..]) {
            *slot = if parent == NONE { root } else { x[parent as usize] };
        }
    });
    Ok(())
}

/// The value of the root of each node's tree (to `out`, by id).
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn root_values<T: Copy + Send + Sync>(forest: &Forest, x: &[T], out: &mut [T], par: Par) -> Result<()> {
    forest.check_nodes("x", x.len())?;
    forest.check_nodes("out", out.len())?;
    by_node(forest, &Roots { forest, x }, out, par);
    Ok(())
}

struct Roots<'a, T> {
    forest: &'a Forest,
    x: &'a [T],
}

impl<T: Copy> Pass<T> for Roots<'_, T> {
    fn run(&self, trees: Range<usize>, out: &mut [T], slot: impl Fn(usize) -> usize) {
        for w in self.forest.trees[trees.start..=trees.end].windows(2) {
            let value = self.x[self.forest.order[w[0]] as usize];
            for place in w[0]..w[1] {
                out[slot(place)] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_reference_forest() {
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        let x = [1.0f32, 2.0, f32::NAN, 0.5, -1.0, 2.0, f32::NAN, 4.0, 0.0];
        let run = |how| {
            let mut out = [9.0; 9];
            down(&f, &x, how, None, &mut out, Par::Serial).unwrap();
            out
        };
        assert_eq!(run(Down::Last), [1.0, 2.0, 1.0, 0.5, -1.0, 2.0, 1.0, 4.0, 0.0]);
        assert_eq!(run(Down::Sum)[..2], [1.0, 3.0]);
        assert_eq!(run(Down::Mean)[3..5], [0.75, 2.0 / 3.0]);
        assert_eq!(run(Down::Max)[3..6], [1.0, 2.0, 2.0]);
        assert_eq!(run(Down::Min)[3..6], [0.5, -1.0, 1.0]);
        for how in [Down::Sum, Down::Mean, Down::Max, Down::Min] {
            assert!(run(how)[2].is_nan() && run(how)[7].is_nan());
        }
        let mut out = [9.0; 9];
        root_values(&f, &x, &mut out, Par::Serial).unwrap();
        assert_eq!(out, [1.0; 9]);
    }

    #[test]
    fn roots_of_mixed_trees() {
        let f = Forest::from_parents(&[2, 4, -1, 2, -1], None).unwrap();
        for par in [Par::Serial, Par::Threads] {
            let (x, mut out) = ([0, 1, 2, 3, 4], [9; 5]);
            root_values(&f, &x, &mut out, par).unwrap();
            assert_eq!(out, [2, 4, 2, 2, 4]);
            parent_values(&f, &x, -1, &mut out, par).unwrap();
            assert_eq!(out, [2, 4, -1, 2, -1]);
            let mut out = [9.0; 5];
            down(&f, &[0.0, 1.0, 2.0, 3.0, 4.0], Down::Sum, None, &mut out, par).unwrap();
            assert_eq!(out, [2.0, 5.0, 2.0, 5.0, 4.0]);
            let (x, w) = ([0.0, f64::NAN, 2.0, 3.0, 4.0], [1.0, 0.0, 3.0, 0.0, 0.0]);
            down(&f, &x, Down::Mean, Some(&w), &mut out, par).unwrap();
            assert_eq!([out[0], out[2], out[3]], [1.5, 2.0, 2.0]);
            assert!(out[1].is_nan() && out[4].is_nan());
            down(&f, &x, Down::Sum, Some(&w), &mut out, par).unwrap();
            assert_eq!(out, [6.0, 0.0, 6.0, 6.0, 0.0]);
            assert!(down(&f, &x, Down::Sum, Some(&[-1.0; 5]), &mut out, par).is_err());
        }
    }
}
