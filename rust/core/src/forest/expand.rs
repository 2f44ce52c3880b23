//! From values of nodes or rollouts to values of tokens.

use super::{Forest, NONE, Spans, structure};
use crate::error::{Result, check_len};
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
/// [`Error::Structure`](crate::Error::Structure) if the forest has no tokens, [`Error::Length`](crate::Error::Length) for
/// a wrong length.
pub fn expand<T: Copy + Default + Send + Sync>(
    forest: &Forest,
    x: &[T],
    per: Per,
    include_root: bool,
    par: Par,
) -> Result<Expanded<T>> {
    let plan = Plan::new(forest, per, include_root)?;
    let mut values = zeros(plan.n_tokens(), "tokens")?;
    plan.write(forest, x, &mut values, par)?;
    Ok(Expanded { values, offsets: plan.offsets })
}

/// Position in the flat tokens of each token that [`Per::Node`] yields, ascending.
///
/// # Errors
/// [`Error::Structure`](crate::Error::Structure) if the forest does not know where its rows start.
pub fn token_index(forest: &Forest, include_root: bool, par: Par) -> Result<Vec<i64>> {
    let spans = forest.spans_or_error()?;
    let (Some((rows, starts)), Some(offsets)) = (spans.places(), spans.offsets()) else {
        let text = "does not know where its tokens are; build it with spans= and offsets=";
        return structure("forest", text);
    };
    let plan = Plan::new(forest, Per::Node, include_root)?;
    let mut index = zeros(plan.n_tokens(), "tokens")?;
    fill(&plan.ends, &mut index, par, |k, part| {
        let node = plan.nodes[k] as usize;
        let from = offsets[rows[node] as usize] + starts[node];
        for (slot, position) in part.iter_mut().zip(from..) {
            *slot = position;
        }
    });
    Ok(index)
}

/// Where the value of each node goes: worked out once, for any number of expansions of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    per: Per,
    offsets: Vec<i64>,
    /// Where each run of values starts: one of a node that has tokens, or the row of a rollout; and their number.
    ends: Vec<usize>,
    /// [`Per::Node`]: the node of each run. [`Per::Rollout`]: by node, the nearest proper ancestor that has tokens, so that
    /// writing down a path visits no node without.
    nodes: Vec<u32>,
}

impl Plan {
    /// For a forest that has tokens.
    ///
    /// # Errors
    /// [`Error::Structure`](crate::Error::Structure) if it has none, or more than memory or int64 hold.
    pub fn new(forest: &Forest, per: Per, include_root: bool) -> Result<Self> {
        let spans = forest.spans_or_error()?;
        match per {
            Per::Node => Self::by_node(forest, spans, include_root),
            Per::Rollout => Self::by_rollout(forest, spans, include_root),
        }
    }

    fn by_node(forest: &Forest, spans: &Spans, include_root: bool) -> Result<Self> {
        let n = spans.order().len();
        let (mut nodes, mut ends) = (Vec::with_capacity(n), Vec::with_capacity(n + 1));
        let mut offsets: Vec<i64> = zeros(spans.n_rows() + 1, "rows")?;
        let mut total = 0;
        ends.push(0);
        for &v in spans.order() {
            if include_root || !forest.is_root(v as usize) {
                let length = spans.lengths()[v as usize];
                total = add(total, length)?;
                nodes.push(v);
                ends.push(total as usize);
                offsets[spans.row(v as usize) + 1] += length;
            }
        }
        for row in 1..offsets.len() {
            offsets[row] += offsets[row - 1];
        }
        Ok(Self { per: Per::Node, offsets, ends, nodes })
    }

    fn by_rollout(forest: &Forest, spans: &Spans, include_root: bool) -> Result<Self> {
        let lengths = spans.lengths();
        // Tokens from the root down to each node.
        let mut tokens = vec![0i64; forest.len()];
        let mut above = vec![NONE; forest.len()];
        for &v in &forest.order {
            let (v, parent) = (v as usize, forest.parents[v as usize]);
            if parent == NONE {
                tokens[v] = if include_root { lengths[v] } else { 0 };
                continue;
            }
            let p = parent as usize;
            tokens[v] = add(tokens[p], lengths[v])?;
            let counted = lengths[p] > 0 && (include_root || !forest.is_root(p));
            above[v] = if counted { parent } else { above[p] };
        }
        let mut offsets = Vec::with_capacity(forest.n_leaves() + 1);
        let mut total = 0;
        offsets.push(total);
        for &leaf in forest.leaves() {
            total = add(total, tokens[leaf as usize])?;
            offsets.push(total);
        }
        let ends = offsets.iter().map(|&o| o as usize).collect();
        Ok(Self { per: Per::Rollout, offsets, ends, nodes: above })
    }

    /// Where each row starts, and the number of tokens.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Number of tokens that are written.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.ends[self.ends.len() - 1]
    }

    /// Writes the value of its node to each token; `x` as of [`expand`], and `forest` the one that this was made for.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length).
    pub fn write<T: Copy + Send + Sync>(
        &self,
        forest: &Forest,
        x: &[T],
        out: &mut [T],
        par: Par,
    ) -> Result<()> {
        // A forest with as many leaves as nodes has but single-node trees, where both readings say the same.
        let by_rollout = x.len() == forest.n_leaves() && self.per == Per::Rollout;
        if !by_rollout {
            forest.check_nodes("x", x.len())?;
        }
        check_len("out", out.len(), self.n_tokens(), "the number of tokens")?;
        let lengths = forest.spans_or_error()?.lengths();
        match self.per {
            Per::Node => fill(&self.ends, out, par, |k, part| part.fill(x[self.nodes[k] as usize])),
            Per::Rollout if by_rollout => fill(&self.ends, out, par, |rollout, part| part.fill(x[rollout])),
            Per::Rollout => fill(&self.ends, out, par, |rollout, part| {
                let (mut node, mut end) = (forest.leaves[rollout] as usize, part.len());
                while end > 0 {
                    let start = end - lengths[node] as usize;
                    part[start..end].fill(x[node]);
                    (node, end) = (self.nodes[node] as usize, start);
                }
            }),
        }
        Ok(())
    }
}

/// Calls `f(k, piece)` for each piece `ends[k]..ends[k + 1]`.
pub(super) fn fill<T: Send>(ends: &[usize], out: &mut [T], par: Par, f: impl Fn(usize, &mut [T]) + Sync) {
    let bounds = match par {
        Par::Serial => vec![0, ends.len() - 1],
        Par::Threads => balanced(ends, 4 * rayon::current_num_threads()),
    };
    let cuts: Vec<usize> = bounds.iter().map(|&k| ends[k]).collect();
    for_pieces(par, out, &cuts, |piece, part| {
        for k in bounds[piece]..bounds[piece + 1] {
            f(k, &mut part[ends[k] - cuts[piece]..ends[k + 1] - cuts[piece]]);
        }
    });
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
