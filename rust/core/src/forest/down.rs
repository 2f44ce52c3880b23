//! Downward passes: along the paths from the roots to the nodes, and one step from parents to children.

use std::ops::Range;

use super::fold::{Pass, by_node, carry};
use super::{Forest, NONE};
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
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn down<T: Real>(forest: &Forest, x: &[T], how: Down, out: &mut [T], par: Par) -> Result<()> {
    forest.check_nodes("x", x.len())?;
    forest.check_nodes("out", out.len())?;
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
            down(&f, &x, how, &mut out, Par::Serial).unwrap();
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
            down(&f, &[0.0, 1.0, 2.0, 3.0, 4.0], Down::Sum, &mut out, par).unwrap();
            assert_eq!(out, [2.0, 5.0, 2.0, 5.0, 4.0]);
        }
    }
}
