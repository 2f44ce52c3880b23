//! Downward passes: along the paths from the roots to the nodes, and one step from parents to children.

use super::fold::carry;
use super::{Forest, NONE, Numbering};
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

/// One value a node (by id) from those on its path from the root, in float64.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn down<T: Real>(forest: &Forest, x: &[T], how: Down, par: Par) -> Result<Vec<f64>> {
    forest.check_nodes(x.len())?;
    let at = |node: usize| x[node].wide() + 0.0;
    let run = |step: fn(f64, f64) -> f64| carry(forest, at, |above, v| step(above, at(v)), par);
    Ok(match how {
        Down::Sum => run(|above, x| above + x),
        Down::Max => run(|above, x| if x > above || x.is_nan() { x } else { above }),
        Down::Min => run(|above, x| if x < above || x.is_nan() { x } else { above }),
        Down::Last => run(|above, x| if x.is_nan() { above } else { x }),
        Down::Mean => {
            // The sum, and the value that all so far have had, or NaN.
            let step =
                |(sum, same): (f64, f64), v| (sum + at(v), if at(v) == same { same } else { f64::NAN });
            let made = carry(forest, |v| (at(v), at(v)), step, par);
            let mean = |(&(sum, same), &depth): (&(f64, f64), &u32)| {
                if same.is_nan() { sum / (f64::from(depth) + 1.0) } else { same }
            };
            made.iter().zip(&forest.depth).map(mean).collect()
        }
    })
}

/// The value of each node's parent (by id); `root` for roots.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn parent_values<T: Copy + Send + Sync>(forest: &Forest, x: &[T], root: T, par: Par) -> Result<Vec<T>> {
    forest.check_nodes(x.len())?;
    let mut out = vec![root; x.len()];
    for_ranges(par, &mut out, 16_384, |start, part| {
        for (slot, &parent) in part.iter_mut().zip(&forest.parents[start..]) {
            if parent != NONE {
                *slot = x[parent as usize];
            }
        }
    });
    Ok(out)
}

/// The value of the root of each node's tree (by id).
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `x` is not of one value a node.
pub fn root_values<T: Copy + Default + Send + Sync>(forest: &Forest, x: &[T], par: Par) -> Result<Vec<T>> {
    forest.check_nodes(x.len())?;
    let by_place = super::fold::pieces(forest, par, |trees, base, out| {
        for w in forest.trees[trees.start..=trees.end].windows(2) {
            out[w[0] - base..w[1] - base].fill(x[forest.order[w[0]] as usize]);
        }
    });
    Ok(match forest.numbering {
        // The ids of a tree fill its interval.
        Numbering::Preorder | Numbering::TreeByTree => by_place,
        Numbering::Mixed => forest.by_id(&by_place, par),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_reference_forest() {
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        let x = [1.0f32, 2.0, f32::NAN, 0.5, -1.0, 2.0, f32::NAN, 4.0, 0.0];
        let run = |how| down(&f, &x, how, Par::Serial).unwrap();
        assert_eq!(run(Down::Last), [1.0, 2.0, 1.0, 0.5, -1.0, 2.0, 1.0, 4.0, 0.0]);
        assert_eq!(run(Down::Sum)[..2], [1.0, 3.0]);
        assert_eq!(run(Down::Mean)[3..5], [0.75, 2.0 / 3.0]);
        assert_eq!(run(Down::Max)[3..6], [1.0, 2.0, 2.0]);
        assert_eq!(run(Down::Min)[3..6], [0.5, -1.0, 1.0]);
        for how in [Down::Sum, Down::Mean, Down::Max, Down::Min] {
            assert!(run(how)[2].is_nan() && run(how)[7].is_nan());
        }
        assert_eq!(root_values(&f, &x, Par::Serial).unwrap(), [1.0; 9]);
    }

    #[test]
    fn roots_of_mixed_trees() {
        let f = Forest::from_parents(&[2, 4, -1, 2, -1], None).unwrap();
        let x = [0, 1, 2, 3, 4];
        for par in [Par::Serial, Par::Threads] {
            assert_eq!(root_values(&f, &x, par).unwrap(), [2, 4, 2, 2, 4]);
            assert_eq!(parent_values(&f, &x, -1, par).unwrap(), [2, 4, -1, 2, -1]);
            let sums = down(&f, &[0.0, 1.0, 2.0, 3.0, 4.0], Down::Sum, par).unwrap();
            assert_eq!(sums, [2.0, 5.0, 2.0, 5.0, 4.0]);
        }
    }
}
