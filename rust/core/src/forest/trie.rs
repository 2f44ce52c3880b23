//! A forest from token sequences: one compressed trie (radix tree) a group.
//!
//! Sequences are inserted one after another. Each follows the nodes it agrees with, by comparing slices, and leaves
//! what it has of its own as one new leaf, so tokens that are not shared are never read beyond the first.

use std::hash::Hash;

use super::radix::{Tree, build};
use super::{Forest, Rows, Spans};
use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};
use crate::ragged::check_offsets;

/// Token sequences in one flat array.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a, T> {
    /// All tokens.
    pub tokens: &'a [T],
    /// Where each sequence starts in them, and where the last one ends.
    pub offsets: &'a [i64],
    /// Number of prompt tokens of each sequence: they become its root's.
    pub prompts: Option<&'a [i64]>,
    /// One number a token that must agree, too, for tokens to be shared.
    pub payload: Option<&'a [i64]>,
}

/// One tree a group, in the order of the groups; one rollout a sequence. Nodes are numbered in preorder.
///
/// Children are in order of first appearance. Every sequence ends in a leaf of its own, which has no tokens if another
/// sequence equals or extends it. A root has the prompt's tokens, or none without `prompts`.
///
/// # Errors
/// [`Error::Length`] and [`Error::Structure`] for arrays that do not fit together, [`Error::Structure`] if prompts
/// differ within a group.
pub fn from_sequences<T: Copy + Eq + Hash + Send + Sync>(
    sequences: Sequences<'_, T>,
    groups: &Groups,
    par: Par,
) -> Result<Forest> {
    sequences.check(groups.len())?;
    let mut weights = vec![0usize];
    for g in 0..groups.n_groups() {
        let tokens: usize = groups.rows(g).iter().map(|&r| sequences.range(r).len() + 1).sum();
        weights.push(weights[g] + tokens);
    }
    let pieces = match par {
        Par::Serial => vec![0, groups.n_groups()],
        Par::Threads => balanced(&weights, 4 * rayon::current_num_threads()),
    };
    let mut trees: Vec<Result<Tree>> = (0..groups.n_groups()).map(|_| Ok(Tree::default())).collect();
    for_pieces(par, &mut trees, &pieces, |piece, part| {
        for (k, tree) in part.iter_mut().enumerate() {
            *tree = build(&sequences, groups.rows(pieces[piece] + k));
        }
    });

    let (mut all, mut leaves) = (Tree::default(), vec![0i64; groups.len()]);
    for (g, tree) in trees.into_iter().enumerate() {
        let (tree, base) = (tree?, all.parents.len() as i64);
        all.parents.extend(tree.parents.iter().map(|&p| if p < 0 { p } else { base + p }));
        all.rows.extend(&tree.rows);
        all.starts.extend(&tree.starts);
        all.lengths.extend(&tree.lengths);
        for (&row, &leaf) in groups.rows(g).iter().zip(&tree.leaves) {
            leaves[row as usize] = base + leaf;
        }
    }
    let spans = Spans::new(all.rows, all.starts, all.lengths, Rows::Offsets(sequences.offsets.to_vec()))?;
    Forest::from_parents(&all.parents, Some(&leaves))?.with_spans(spans)
}

impl<T: Copy + Eq> Sequences<'_, T> {
    fn check(&self, n: usize) -> Result<()> {
        let total = self.offsets.last().copied().unwrap_or(0);
        check_len("tokens", self.tokens.len(), total.max(0) as usize, "offsets[-1]")?;
        check_offsets("offsets", self.offsets, self.tokens.len())?;
        check_len("groups", n, self.offsets.len() - 1, "len(offsets) - 1")?;
        if let Some(payload) = self.payload {
            check_len("payload", payload.len(), self.tokens.len(), "len(tokens)")?;
        }
        let Some(prompts) = self.prompts else {
            return Ok(());
        };
        check_len("prompt_lengths", prompts.len(), n, "len(offsets) - 1")?;
        for (row, &length) in prompts.iter().enumerate() {
            let most = self.offsets[row + 1] - self.offsets[row];
            if length < 0 || length > most {
                return Err(Error::Range {
                    arg: "prompt_lengths",
                    expected: format!("between 0 and the length {most} of its sequence"),
                    got: format!("{length} for sequence {row}"),
                });
            }
        }
        Ok(())
    }

    /// Flat positions of a sequence.
    pub(super) fn range(&self, row: u32) -> std::ops::Range<usize> {
        self.offsets[row as usize] as usize..self.offsets[row as usize + 1] as usize
    }

    pub(super) fn prompt(&self, row: u32) -> usize {
        self.prompts.map_or(0, |p| p[row as usize] as usize)
    }

    /// Number of tokens, at most `n`, that are the same from the flat positions `a` and `b` on.
    pub(super) fn common(&self, a: usize, b: usize, n: usize) -> usize {
        let same = common_prefix(&self.tokens[a..a + n], &self.tokens[b..b + n]);
        self.payload.map_or(same, |p| common_prefix(&p[a..a + same], &p[b..b + same]))
    }

    pub(super) fn key(&self, at: usize) -> (T, i64) {
        (self.tokens[at], self.payload.map_or(0, |p| p[at]))
    }
}

fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    const BLOCK: usize = 32;
    let (blocks_a, blocks_b) = (a.as_chunks::<BLOCK>().0, b.as_chunks::<BLOCK>().0);
    // Whole blocks compare as memory does; the loop by element ends within one block.
    let equal = blocks_a.iter().zip(blocks_b).take_while(|(x, y)| x == y).count() * BLOCK;
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
#[path = "trie_tests.rs"]
mod tests;
