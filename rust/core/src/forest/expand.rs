//! From values of nodes or rollouts to values of tokens.

use super::{Forest, NONE, Spans, structure};
use crate::error::Result;
use crate::par::{Par, balanced, for_pieces};

/// How often a token that several rollouts share appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Once in each of these rollouts; rows are the rollouts.
    Rollout,
    /// Once; rows are those of the caller's tokens or, if places are not known, the nodes.
    Node,
}

/// Values in rows, and where each row starts.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Expanded<T> {
    pub values: Vec<T>,
    pub offsets: Vec<i64>,
}

/// Gives each token the value of its node. `x` is by node or, for [`Per::Rollout`], may be by rollout.
///
/// # Errors
/// [`Error::Structure`] if the forest has no tokens, [`Error::Length`] for a wrong length.
pub fn expand<T: Copy + Default + Send + Sync>(
    forest: &Forest,
    x: &[T],
    per: Per,
    include_root: bool,
    par: Par,
) -> Result<Expanded<T>> {
    let spans = forest.spans_or_error()?;
    // A forest with as many leaves as nodes has but single-node trees, where both readings say the same.
    let by_rollout = x.len() == forest.n_leaves() && per == Per::Rollout;
    if !by_rollout {
        forest.check_nodes(x.len())?;
    }
    match per {
        Per::Node => {
            let once = Once::new(forest, spans, include_root)?;
            let values = fill(&once.ends, par, |k, part| part.fill(x[once.nodes[k]]))?;
            let offsets = once.row_offsets(spans)?;
            Ok(Expanded { values, offsets })
        }
        Per::Rollout => {
            let paths = Paths::new(forest, spans, include_root)?;
            let offsets = paths.offsets(forest)?;
            let values = fill(&offsets, par, |rollout, part| {
                if by_rollout {
                    part.fill(x[rollout]);
                } else {
                    paths.write(forest.leaves[rollout], x, part);
                }
            })?;
            Ok(Expanded { values, offsets })
        }
    }
}

/// Position in the flat tokens of each token that [`Per::Node`] yields, ascending.
///
/// # Errors
/// [`Error::Structure`] if the forest does not know where its rows start.
pub fn token_index(forest: &Forest, include_root: bool, par: Par) -> Result<Vec<i64>> {
    let spans = forest.spans_or_error()?;
    let (Some((rows, starts)), Some(offsets)) = (spans.places(), spans.offsets()) else {
        let text = "does not know where its tokens are; build it with spans= and offsets=";
        return structure("forest", text);
    };
    let once = Once::new(forest, spans, include_root)?;
    fill(&once.ends, par, |k, part| {
        let node = once.nodes[k];
        let from = offsets[rows[node] as usize] + starts[node];
        for (slot, position) in part.iter_mut().zip(from..) {
            *slot = position;
        }
    })
}

/// The nodes that have tokens, in the order of these, and where the tokens of each start and end.
struct Once {
    nodes: Vec<usize>,
    ends: Vec<i64>,
}

impl Once {
    fn new(forest: &Forest, spans: &Spans, include_root: bool) -> Result<Self> {
        let n = spans.order().len();
        let (mut nodes, mut ends) = (Vec::with_capacity(n), Vec::with_capacity(n + 1));
        let mut total = 0;
        ends.push(total);
        for v in spans.order().iter().map(|&v| v as usize) {
            if include_root || !forest.is_root(v) {
                total = add(total, spans.lengths()[v])?;
                nodes.push(v);
                ends.push(total);
            }
        }
        Ok(Self { nodes, ends })
    }

    fn row_offsets(&self, spans: &Spans) -> Result<Vec<i64>> {
        let mut offsets = zeros(spans.n_rows() + 1, "rows")?;
        for &v in &self.nodes {
            offsets[spans.row(v) + 1] += spans.lengths()[v];
        }
        for row in 1..offsets.len() {
            offsets[row] += offsets[row - 1];
        }
        Ok(offsets)
    }
}

/// What it takes to write down the tokens between a leaf and its root without visiting nodes that have none.
struct Paths<'a> {
    lengths: &'a [i64],
    /// By node: tokens from the root down to it, and its nearest proper ancestor that has some.
    tokens: Vec<i64>,
    above: Vec<u32>,
}

impl<'a> Paths<'a> {
    fn new(forest: &Forest, spans: &'a Spans, include_root: bool) -> Result<Self> {
        let mut paths =
            Self { lengths: spans.lengths(), tokens: vec![0; forest.len()], above: vec![NONE; forest.len()] };
        for &v in &forest.order {
            let (v, parent) = (v as usize, forest.parents[v as usize]);
            if parent == NONE {
                paths.tokens[v] = if include_root { paths.lengths[v] } else { 0 };
                continue;
            }
            let p = parent as usize;
            paths.tokens[v] = add(paths.tokens[p], paths.lengths[v])?;
            let counted = paths.lengths[p] > 0 && (include_root || !forest.is_root(p));
            paths.above[v] = if counted { parent } else { paths.above[p] };
        }
        Ok(paths)
    }

    fn offsets(&self, forest: &Forest) -> Result<Vec<i64>> {
        let mut offsets = Vec::with_capacity(forest.n_leaves() + 1);
        let mut total = 0;
        offsets.push(0);
        for &leaf in &forest.leaves {
            total = add(total, self.tokens[leaf as usize])?;
            offsets.push(total);
        }
        Ok(offsets)
    }

    /// Fills `part`, the tokens of the rollout that ends at `leaf`, from its end.
    fn write<T: Copy>(&self, leaf: u32, x: &[T], part: &mut [T]) {
        let (mut node, mut end) = (leaf, part.len());
        while end > 0 {
            let v = node as usize;
            let start = end - self.lengths[v] as usize;
            part[start..end].fill(x[v]);
            (node, end) = (self.above[v], start);
        }
    }
}

/// A vector of pieces `offsets[k]..offsets[k + 1]` that `f(k, piece)` has filled.
pub(super) fn fill<T: Copy + Default + Send>(
    offsets: &[i64],
    par: Par,
    f: impl Fn(usize, &mut [T]) + Sync,
) -> Result<Vec<T>> {
    let ends: Vec<usize> = offsets.iter().map(|&o| o as usize).collect();
    let total = ends[ends.len() - 1];
    let mut out = zeros(total, "tokens")?;
    let bounds = match par {
        Par::Serial => vec![0, ends.len() - 1],
        Par::Threads => balanced(&ends, 4 * rayon::current_num_threads()),
    };
    let cuts: Vec<usize> = bounds.iter().map(|&k| ends[k]).collect();
    for_pieces(par, &mut out, &cuts, |piece, part| {
        for k in bounds[piece]..bounds[piece + 1] {
            f(k, &mut part[ends[k] - cuts[piece]..ends[k + 1] - cuts[piece]]);
        }
    });
    Ok(out)
}

/// Asks whether there is as much memory; then takes it as zeroed pages, which the threads touch first.
pub(super) fn zeros<T: Copy + Default>(n: usize, what: &str) -> Result<Vec<T>> {
    match Vec::<T>::new().try_reserve_exact(n) {
        Ok(()) => Ok(vec![T::default(); n]),
        Err(_) => structure("forest", format!("has more {what} to write than memory holds, {n}")),
    }
}

fn add(a: i64, b: i64) -> Result<i64> {
    match a.checked_add(b) {
        Some(sum) => Ok(sum),
        None => structure("forest", "has more tokens to write than int64 counts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::Rows;

    /// The reference forest with a prompt of one token; node v has the value v.
    fn reference(places: bool) -> Forest {
        let lengths = vec![1, 2, 2, 3, 2, 1, 1, 2, 2];
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        let spans = if places {
            // Rollouts are rows 0 to 5: C A1 A2 B1 B2 B3.
            let (rows, starts) = (vec![0, 1, 3, 0, 1, 2, 3, 4, 5], vec![0, 1, 1, 1, 3, 3, 3, 3, 3]);
            Spans::new(rows, starts, lengths, Rows::Offsets(vec![0, 4, 9, 13, 17, 22, 27])).unwrap()
        } else {
            Spans::from_lengths(lengths).unwrap()
        };
        f.with_spans(spans).unwrap()
    }

    fn ids() -> Vec<i64> {
        (0..9).collect()
    }

    #[test]
    fn per_rollout() {
        for par in [Par::Serial, Par::Threads] {
            let e = expand(&reference(false), &ids(), Per::Rollout, false, par).unwrap();
            assert_eq!(e.offsets, [0, 3, 7, 10, 13, 17, 21]);
            let rows = [
                vec![3, 3, 3],
                vec![1, 1, 4, 4],
                vec![1, 1, 5],
                vec![2, 2, 6],
                vec![2, 2, 7, 7],
                vec![2, 2, 8, 8],
            ];
            assert_eq!(e.values, rows.concat());
            let e = expand(&reference(false), &ids(), Per::Rollout, true, par).unwrap();
            assert_eq!(e.values[..5], [0, 3, 3, 3, 0]);
            let e = expand(&reference(false), &[3i64, 4, 5, 6, 7, 8], Per::Rollout, false, par).unwrap();
            assert_eq!(e.values[..8], [3, 3, 3, 4, 4, 4, 4, 5]);
        }
    }

    #[test]
    fn per_node() {
        let e = expand(&reference(false), &ids(), Per::Node, false, Par::Serial).unwrap();
        assert_eq!(e.offsets, [0, 0, 2, 4, 7, 9, 10, 11, 13, 15]);
        assert_eq!(e.values, [1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 7, 8, 8]);
        let f = reference(true);
        let e = expand(&f, &ids(), Per::Node, false, Par::Threads).unwrap();
        assert_eq!(e.offsets, [0, 3, 7, 8, 11, 13, 15]);
        assert_eq!(e.values, [3, 3, 3, 1, 1, 4, 4, 5, 2, 2, 6, 7, 7, 8, 8]);
        let index = token_index(&f, false, Par::Serial).unwrap();
        assert_eq!(index[..8], [1, 2, 3, 5, 6, 7, 8, 12]);
        assert_eq!(token_index(&f, true, Par::Threads).unwrap()[..2], [0, 1]);
        assert!(token_index(&reference(false), false, Par::Serial).is_err());
        assert!(expand(&f, &[0; 6], Per::Node, false, Par::Serial).is_err());
    }

    #[test]
    fn a_chain_of_empty_nodes_costs_nothing() {
        let n = 200_000;
        let mut parents: Vec<i64> = (-1..n - 1).collect();
        parents.extend([n - 1; 1000]);
        let mut lengths = vec![0; n as usize];
        lengths[1] = 1;
        lengths.extend([1; 1000]);
        let f = Forest::from_parents(&parents, None).unwrap();
        let f = f.with_spans(Spans::from_lengths(lengths).unwrap()).unwrap();
        let x: Vec<u32> = (0..f.len() as u32).collect();
        let e = expand(&f, &x, Per::Rollout, false, Par::Serial).unwrap();
        assert_eq!(e.values[..4], [1, n as u32, 1, n as u32 + 1]);
    }

    #[test]
    fn more_tokens_than_memory_is_an_error() {
        let f = Forest::from_parents(&[-1, 0, 0], None).unwrap();
        let f = f.with_spans(Spans::from_lengths(vec![0, 1 << 62, 1]).unwrap()).unwrap();
        for per in [Per::Rollout, Per::Node] {
            let e = expand(&f, &[0; 3], per, false, Par::Serial).unwrap_err();
            assert!(e.to_string().contains("'forest' has more tokens to write than memory holds"));
        }
        // A shared node counts in each rollout.
        let f = Forest::from_parents(&[-1, 0, 1, 1, 1], None).unwrap();
        let f = f.with_spans(Spans::from_lengths(vec![0, 1 << 62, 0, 0, 0]).unwrap()).unwrap();
        let e = expand(&f, &[0; 5], Per::Rollout, false, Par::Serial).unwrap_err();
        assert!(e.to_string().contains("than int64 counts"));
    }
}
