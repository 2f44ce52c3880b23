//! A forest as one token sequence for a model: every shared token once, in depth-first order.
//!
//! The tokens below a token, itself included, are one interval of that order. So who may attend to whom, where the next
//! token is predicted from and which rollout has which tokens are a few numbers a node, spread over its tokens.

use super::expand::{fill, zeros};
use super::{Expanded, Forest, NONE, Spans, structure};
use crate::error::{Error, Result, check_len};
use crate::par::Par;

/// The tokens of some trees, one tree after another, each in depth-first order.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// By token: its position in the flat tokens of the caller.
    pub index: Vec<i64>,
    /// Tokens before it in its rollouts, prompt included.
    pub positions: Vec<i32>,
    /// The packed position after the last token below it: `q` comes after `kv` in a rollout if `kv <= q < end[kv]`.
    pub end: Vec<i32>,
    /// The packed position of the token before it in its rollouts, -1 for a first token.
    pub previous: Vec<i32>,
    /// The nodes that have tokens, in packed order.
    pub nodes: Vec<i64>,
    /// Where the tokens of each of them start, and the number of tokens.
    pub starts: Vec<i64>,
}

/// Packs `trees`, in this order.
///
/// # Errors
/// [`Error::Structure`] if the forest does not know where its tokens are, for trees that are not there or come twice, or
/// for more than 2^31 - 1 tokens.
pub fn pack(forest: &Forest, trees: &[i64], par: Par) -> Result<Packed> {
    let spans = forest.spans();
    let places = spans.and_then(|s| Some((s, s.places()?, s.offsets()?)));
    let Some((spans, (rows, row_starts), offsets)) = places else {
        let text = "does not know where its tokens are; build it with from_sequences or from_messages, or give \
                    from_parents spans= and offsets=";
        return structure("forest", text);
    };
    let plan = Plan::new(forest, spans, trees)?;
    let n = plan.token_nodes.len();
    let (mut nodes, mut starts) = (Vec::with_capacity(n), Vec::with_capacity(n + 1));
    for &k in &plan.token_nodes {
        nodes.push(i64::from(plan.places[k as usize].node));
        starts.push(i64::from(plan.places[k as usize].start));
    }
    starts.push(plan.total);
    let ends = to_usize(&starts);
    let of = |k: usize| &plan.places[plan.token_nodes[k] as usize];
    let index = filled(&ends, par, |k, part| {
        let v = of(k).node as usize;
        ascending(part, offsets[rows[v] as usize] + row_starts[v], 1);
    })?;
    let positions = filled(&ends, par, |k, part| ascending(part, of(k).before as i32, 1))?;
    let end = filled(&ends, par, |k, part| part.fill(of(k).end as i32))?;
    let previous = filled(&ends, par, |k, part| {
        let place = of(k);
        // The first token follows the last one of the nearest node above that has tokens.
        ascending(part, place.start as i32 - 1, 1);
        part[0] = match place.above {
            NONE => -1,
            above => plan.places[above as usize].last(),
        };
    })?;
    Ok(Packed { index, positions, end, previous, nodes, starts })
}

/// The packed positions of the tokens of each rollout of `trees`, in order, and these rollouts, ascending.
///
/// # Errors
/// As of [`pack`], and [`Error::Structure`] for more tokens than memory holds.
pub fn rollout_tokens(
    forest: &Forest,
    trees: &[i64],
    include_root: bool,
    par: Par,
) -> Result<(Vec<i64>, Expanded<i64>)> {
    let plan = Plan::new(forest, forest.spans_or_error()?, trees)?;
    // Rollout, and the place of its leaf.
    let mut ends: Vec<(u32, u32)> = Vec::new();
    let mut base = 0;
    for &t in trees {
        let t = t as usize;
        let (first, last) = (forest.trees[t], forest.trees[t + 1]);
        let leaves = (first..last).filter(|&place| forest.end[place] as usize == place + 1);
        for (place, &rollout) in leaves.zip(&forest.rollouts[forest.leaf_ends[t]..]) {
            ends.push((rollout, (place - first + base) as u32));
        }
        base += last - first;
    }
    ends.sort_unstable();
    let mut offsets = zeros::<i64>(ends.len() + 1, "rollouts")?;
    for (i, &(_, leaf)) in ends.iter().enumerate() {
        let leaf = &plan.places[leaf as usize];
        let skipped = if include_root { 0 } else { leaf.prompt };
        // A path has fewer than 2^31 tokens, and there are fewer than 2^32 rollouts.
        offsets[i + 1] = offsets[i] + i64::from(leaf.before + leaf.len - skipped);
    }
    let values = filled(&to_usize(&offsets), par, |i, part| {
        let (mut k, mut stop) = (ends[i].1, part.len());
        while stop > 0 {
            let place = &plan.places[k as usize];
            let start = stop - place.len as usize;
            ascending(&mut part[start..stop], i64::from(place.start), 1);
            (k, stop) = (place.above, start);
        }
    })?;
    let rollouts = ends.iter().map(|&(rollout, _)| i64::from(rollout)).collect();
    Ok((rollouts, Expanded { values, offsets }))
}

/// A node at its place in the order of the packed trees.
struct Place {
    node: u32,
    len: u32,
    /// Packed position of its first token, and the one after the last token below it.
    start: u32,
    end: u32,
    /// Tokens above it, and those of its root.
    before: u32,
    prompt: u32,
    /// Place of the nearest node above that has tokens.
    above: u32,
}

impl Place {
    fn last(&self) -> i32 {
        (self.start + self.len) as i32 - 1
    }
}

struct Plan {
    places: Vec<Place>,
    /// Places that have tokens, ascending.
    token_nodes: Vec<u32>,
    total: i64,
}

impl Plan {
    fn new(forest: &Forest, spans: &Spans, trees: &[i64]) -> Result<Self> {
        let mut seen = vec![false; forest.n_trees()];
        for &t in trees {
            let Some(seen) = usize::try_from(t).ok().and_then(|t| seen.get_mut(t)) else {
                let n = forest.n_trees();
                return structure("trees", format!("must be below {n} (= the number of trees), got {t}"));
            };
            if std::mem::replace(seen, true) {
                return structure("trees", format!("must not repeat, got {t} twice"));
            }
        }
        let lengths = spans.lengths();
        check_len("lengths", lengths.len(), forest.len(), "the number of nodes")?;
        let size = trees.iter().map(|&t| forest.trees[t as usize + 1] - forest.trees[t as usize]).sum();
        let (mut places, mut token_nodes, mut total) = (Vec::with_capacity(size), Vec::new(), 0u64);
        for &t in trees {
            let (first, last) = (forest.trees[t as usize], forest.trees[t as usize + 1]);
            let base = places.len();
            // Places of the nodes above, in this tree.
            let mut path: Vec<usize> = Vec::new();
            for place in first..last {
                let node = forest.order[place];
                let v = node as usize;
                let len = lengths[v] as u64;
                let (start, k) = (total, places.len());
                total = total.saturating_add(len);
                if total > i32::MAX as u64 {
                    return Err(too_many(total));
                }
                let (len, start) = (len as u32, start as u32);
                while path.last().is_some_and(|&above| forest.end[above] as usize <= place) {
                    path.pop();
                }
                let (before, prompt, above) = match path.last() {
                    None => (0, len, NONE),
                    Some(parent) => {
                        let p = parent - first + base;
                        let parent: &Place = &places[p];
                        let above = if parent.len > 0 { p as u32 } else { parent.above };
                        (parent.before + parent.len, parent.prompt, above)
                    }
                };
                if len > 0 {
                    token_nodes.push(k as u32);
                }
                path.push(place);
                places.push(Place { node, len, start, end: 0, before, prompt, above });
            }
            for k in base..places.len() {
                let after = forest.end[first + k - base] as usize - first + base;
                let end = places.get(after).map_or(total as u32, |p| p.start);
                places[k].end = end;
            }
        }
        Ok(Self { places, token_nodes, total: total as i64 })
    }
}

fn too_many(got: u64) -> Error {
    let reason =
        format!("has at least {got} tokens in these trees, but a batch holds {}; take fewer trees", i32::MAX);
    Error::Structure { arg: "forest", reason }
}

fn to_usize(offsets: &[i64]) -> Vec<usize> {
    offsets.iter().map(|&o| o as usize).collect()
}

/// A vector of pieces `offsets[k]..offsets[k + 1]` that `f(k, piece)` has filled.
fn filled<T: Copy + Default + Send>(
    offsets: &[usize],
    par: Par,
    f: impl Fn(usize, &mut [T]) + Sync,
) -> Result<Vec<T>> {
    let mut out = zeros(offsets[offsets.len() - 1], "tokens")?;
    fill(offsets, &mut out, par, f);
    Ok(out)
}

/// Fills `part` with `first`, `first + step`, ...
fn ascending<T: Copy + std::ops::AddAssign>(part: &mut [T], first: T, step: T) {
    let mut value = first;
    for slot in part {
        *slot = value;
        value += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::{Rows, Sequences, from_sequences};
    use crate::groups::Groups;

    /// The trie of [1 2 3 4], [1 2 5], [1 2 3 6], [7], and a second tree of [1 2], [1 2].
    fn forest(prompts: Option<&[i64]>) -> Forest {
        let tokens = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 6, 7, 1, 2, 1, 2];
        let sequences =
            Sequences { tokens: &tokens, offsets: &[0, 4, 7, 11, 12, 14, 16], prompts, payload: None };
        let groups = Groups::from_index(vec![0, 0, 0, 0, 1, 1], 2).unwrap();
        from_sequences(sequences, &groups, Par::Serial).unwrap()
    }

    #[test]
    fn a_trie() {
        for par in [Par::Serial, Par::Threads] {
            let p = pack(&forest(None), &[0, 1], par).unwrap();
            assert_eq!(p.index, [0, 1, 2, 3, 10, 6, 11, 12, 13]);
            assert_eq!(p.positions, [0, 1, 2, 3, 3, 2, 0, 0, 1]);
            assert_eq!(p.end, [6, 6, 5, 4, 5, 6, 7, 9, 9]);
            assert_eq!(p.previous, [-1, 0, 1, 2, 2, 1, -1, -1, 7]);
            assert_eq!((p.nodes.len(), p.starts[..4].to_vec()), (7, vec![0, 2, 3, 4]));
            let (rollouts, tokens) = rollout_tokens(&forest(None), &[0, 1], false, par).unwrap();
            assert_eq!(rollouts, [0, 1, 2, 3, 4, 5]);
            assert_eq!(tokens.offsets, [0, 4, 7, 11, 12, 14, 16]);
            assert_eq!(tokens.values, [0, 1, 2, 3, 0, 1, 5, 0, 1, 2, 4, 6, 7, 8, 7, 8]);
        }
    }

    #[test]
    fn one_tree_of_several_and_prompts() {
        let f = forest(None);
        let p = pack(&f, &[1], Par::Serial).unwrap();
        assert_eq!((&p.index[..], &p.end[..], &p.previous[..]), (&[12, 13][..], &[2, 2][..], &[-1, 0][..]));
        assert_eq!(pack(&f, &[1, 0], Par::Serial).unwrap().index[..3], [12, 13, 0]);
        let (rollouts, tokens) = rollout_tokens(&f, &[1], true, Par::Serial).unwrap();
        assert_eq!((&rollouts[..], &tokens.values[..]), (&[4, 5][..], &[0, 1, 0, 1][..]));

        let tokens = [9, 8, 1, 9, 8, 2];
        let sequences =
            Sequences { tokens: &tokens, offsets: &[0, 3, 6], prompts: Some(&[2, 2]), payload: None };
        let groups = Groups::from_index(vec![0, 0], 1).unwrap();
        let f = from_sequences(sequences, &groups, Par::Serial).unwrap();
        let (_, with) = rollout_tokens(&f, &[0], true, Par::Serial).unwrap();
        let (_, without) = rollout_tokens(&f, &[0], false, Par::Serial).unwrap();
        assert_eq!((&with.values[..], &without.values[..]), (&[0, 1, 2, 0, 1, 3][..], &[2, 3][..]));
        assert_eq!(pack(&f, &[0], Par::Serial).unwrap().previous, [-1, 0, 1, 1]);
    }

    #[test]
    fn wrong_calls() {
        let f = forest(None);
        let text = |trees: &[i64]| pack(&f, trees, Par::Serial).unwrap_err().to_string();
        assert_eq!(text(&[2]), "'trees' must be below 2 (= the number of trees), got 2");
        assert_eq!(text(&[-1]), "'trees' must be below 2 (= the number of trees), got -1");
        assert_eq!(text(&[1, 1]), "'trees' must not repeat, got 1 twice");
        assert_eq!(pack(&f, &[], Par::Serial).unwrap().starts, [0]);
        let bare = Forest::from_parents(&[-1, 0], None).unwrap();
        assert!(pack(&bare, &[0], Par::Serial).is_err());
        assert!(rollout_tokens(&bare, &[0], true, Par::Serial).is_err());
        let counted = bare.with_spans(Spans::from_lengths(vec![1, 1]).unwrap()).unwrap();
        assert!(pack(&counted, &[0], Par::Serial).unwrap_err().to_string().contains("where its tokens are"));
        let long = vec![0, 1 << 40];
        let spans = Spans::new(vec![0, 0], vec![0, 0], long, Rows::Offsets(vec![0, 1 << 40])).unwrap();
        let f = Forest::from_parents(&[-1, 0], None).unwrap().with_spans(spans).unwrap();
        let e = pack(&f, &[0], Par::Serial).unwrap_err().to_string();
        assert!(e.contains("a batch holds 2147483647; take fewer trees"), "{e}");
    }

    #[test]
    fn a_chain_of_empty_nodes_costs_nothing() {
        let n = 200_000;
        let mut parents: Vec<i64> = (-1..n - 1).collect();
        parents.extend([n - 1; 1000]);
        let mut lengths = vec![0; n as usize];
        lengths[1] = 1;
        lengths.extend([1; 1000]);
        let starts = (0..lengths.len()).map(|v| if v < 2 { 0 } else { v as i64 }).collect();
        let rows = Rows::Offsets(vec![0, 1 << 20]);
        let spans = Spans::new(vec![0; lengths.len()], starts, lengths, rows).unwrap();
        let f = Forest::from_parents(&parents, None).unwrap().with_spans(spans).unwrap();
        let (_, tokens) = rollout_tokens(&f, &[0], true, Par::Serial).unwrap();
        assert_eq!(tokens.values[..4], [0, 1, 0, 2]);
    }
}
