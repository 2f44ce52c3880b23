//! Rollouts that share prefixes: trees whose root-to-leaf paths are the rollouts.
//!
//! Nodes carry the ids of the caller. Beside them stands the canonical order, a depth-first preorder in which each
//! subtree and each tree is one interval: going backwards through it meets every child before its parent, so an
//! upward pass is one loop over an array, without recursion, and trees go to threads as slices.

use crate::error::{Error, Result};
use crate::groups::Groups;

mod backup;
mod down;
mod expand;
mod fold;
mod leaf_stat;
mod order_stat;
mod pack;
mod parents;
mod prune;
mod radix;
mod spans;
mod tally;
mod trie;
mod up;
mod weighted;

pub use backup::{Backup, backup};
pub use down::{Down, down, parent_values, root_values};
pub use expand::{Expanded, Per, Plan, expand, token_index};
pub use leaf_stat::{LeafStat, leaf_stat};
pub use pack::{Packed, pack, rollout_tokens};
pub use prune::prune;
pub use spans::{Rows, Spans};
pub use trie::{Sequences, from_sequences};
pub use up::{Up, up};

/// The parent of a root.
pub const NONE: u32 = u32::MAX;

/// A validated forest; no node is its own ancestor, and every leaf is the end of exactly one rollout.
///
/// Trees are in the order of their roots' ids, children in the order of theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// By node id.
    parents: Vec<u32>,
    /// By place in the canonical order: the node, and the place after the last one of its subtree.
    order: Vec<u32>,
    end: Vec<u32>,
    /// Place at which each tree starts, and the number of nodes at the end.
    trees: Vec<usize>,
    /// Number of leaves before each tree, and of all at the end.
    leaf_ends: Vec<usize>,
    numbering: Numbering,
    /// Place of each node, for mixed numberings alone.
    rank: Vec<u32>,
    /// Leaf of each rollout (node id), and the rollout of each leaf in canonical order.
    leaves: Vec<u32>,
    rollouts: Vec<u32>,
    spans: Option<Spans>,
}

/// How node ids lie to the canonical order, which decides where a pass can write its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// Id and place are the same.
    Preorder,
    /// The ids of each tree fill the interval of its places.
    TreeByTree,
    Mixed,
}

impl Forest {
    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// True if there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Number of trees.
    #[must_use]
    pub fn n_trees(&self) -> usize {
        self.trees.len() - 1
    }

    /// Number of leaves, each of which ends one rollout.
    #[must_use]
    pub fn n_leaves(&self) -> usize {
        self.leaves.len()
    }

    /// Parent of each node, [`NONE`] for roots.
    #[must_use]
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// Number of edges between each node and its root.
    #[must_use]
    pub fn depth(&self) -> Vec<u32> {
        let mut depth = vec![0; self.len()];
        for &node in &self.order {
            if let Some(&above) = depth.get(self.parents[node as usize] as usize) {
                depth[node as usize] = above + 1;
            }
        }
        depth
    }

    /// Nodes in canonical order.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// For each place in the canonical order, the place after the subtree that starts there.
    #[must_use]
    pub fn subtree_end(&self) -> &[u32] {
        &self.end
    }

    /// Place in the canonical order at which each tree starts; at the end the number of nodes.
    #[must_use]
    pub fn trees(&self) -> &[usize] {
        &self.trees
    }

    /// Leaf of each rollout.
    #[must_use]
    pub fn leaves(&self) -> &[u32] {
        &self.leaves
    }

    /// Where the tokens of the nodes are, if that was told.
    #[must_use]
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// The same forest with tokens.
    ///
    /// # Errors
    /// [`Error::Length`] if `spans` is not of one span a node.
    pub fn with_spans(mut self, spans: Spans) -> Result<Self> {
        crate::error::check_len("lengths", spans.len(), self.len(), "the number of nodes")?;
        self.spans = Some(spans);
        Ok(self)
    }

    /// Root of each tree.
    pub fn roots(&self) -> impl Iterator<Item = u32> {
        self.trees[..self.n_trees()].iter().map(|&k| self.order[k])
    }

    /// Tree of each node.
    #[must_use]
    pub fn tree_index(&self) -> Vec<u32> {
        let mut index = vec![0; self.len()];
        for (tree, w) in self.trees.windows(2).enumerate() {
            for &node in &self.order[w[0]..w[1]] {
                index[node as usize] = tree as u32;
            }
        }
        index
    }

    /// Number of leaves below each node (by id); 1 for a leaf.
    #[must_use]
    pub fn leaf_counts(&self) -> Vec<u32> {
        let mut before = Vec::with_capacity(self.len() + 1);
        before.push(0u32);
        for (k, &end) in self.end.iter().enumerate() {
            before.push(before[k] + u32::from(end as usize == k + 1));
        }
        let mut counts = vec![0; self.len()];
        for (place, (&node, &end)) in self.order.iter().zip(&self.end).enumerate() {
            counts[node as usize] = before[end as usize] - before[place];
        }
        counts
    }

    /// Nodes grouped by parent; each root is a group of its own.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the number of rows of a [`Groups`].
    pub fn siblings(&self) -> Result<Groups> {
        let mut group_below = vec![NONE; self.len()];
        let mut index = Vec::with_capacity(self.len());
        let mut n = 0u32;
        for &parent in &self.parents {
            let known = if parent == NONE { NONE } else { group_below[parent as usize] };
            let group = if known == NONE { n } else { known };
            if known == NONE {
                n += 1;
                if parent != NONE {
                    group_below[parent as usize] = group;
                }
            }
            index.push(group);
        }
        Groups::from_index(index, n as usize)
    }

    pub(crate) fn is_root(&self, node: usize) -> bool {
        self.parents[node] == NONE
    }

    fn check_nodes(&self, arg: &'static str, n: usize) -> Result<()> {
        crate::error::check_len(arg, n, self.len(), "forest.n_nodes")
    }

    fn check_rollouts(&self, arg: &'static str, n: usize) -> Result<()> {
        crate::error::check_len(arg, n, self.n_leaves(), "forest.n_leaves")
    }
}

fn structure<T>(arg: &'static str, reason: impl Into<String>) -> Result<T> {
    let reason = reason.into();
    Err(Error::Structure { arg, reason })
}
