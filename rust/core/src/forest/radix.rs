//! One radix tree under construction.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::structure;
use super::trie::Sequences;
use crate::error::Result;

const NO: u32 = u32::MAX;
/// Number of children from which on a table finds them.
const MANY: u32 = 16;

/// A node under construction: `len` tokens from the flat position `start` of sequence `row` on.
struct Node {
    row: u32,
    start: usize,
    len: usize,
    /// First and last child, next sibling.
    first: u32,
    last: u32,
    next: u32,
    n_children: u32,
    /// Place in `Builder::tables`.
    table: u32,
    /// Place in its group of the sequence that ends here, if this is a leaf.
    member: u32,
}

struct Builder<'a, T> {
    sequences: &'a Sequences<'a, T>,
    nodes: Vec<Node>,
    tables: Vec<FxHashMap<(T, i64), u32>>,
}

/// A finished tree with nodes in preorder; `leaves` has one node a member of the group.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) parents: Vec<i64>,
    pub(super) rows: Vec<i64>,
    pub(super) starts: Vec<i64>,
    pub(super) lengths: Vec<i64>,
    pub(super) leaves: Vec<i64>,
}

/// Inserts the sequences `rows`, which must not be empty, in turn.
///
/// # Errors
/// [`Error::Structure`](crate::Error::Structure) if their prompts differ.
pub(super) fn build<T: Copy + Eq + Hash>(sequences: &Sequences<'_, T>, rows: &[u32]) -> Result<Tree> {
    let mut builder =
        Builder { sequences, nodes: Vec::with_capacity(2 * rows.len() + 1), tables: Vec::new() };
    let (first, prompt) = (rows[0], sequences.prompt(rows[0]));
    let prompt_start = sequences.range(first).start;
    builder.push(first, prompt_start, prompt, NO);
    for (member, &row) in rows.iter().enumerate() {
        let range = sequences.range(row);
        let own = sequences.prompt(row);
        let same = sequences.common(prompt_start, range.start, prompt.min(own));
        if same < prompt.max(own) {
            return structure(
                "prompt_lengths",
                format!(
                    "must mark the same prompt within a group, got {first} and {row}, which differ at token {same}"
                ),
            );
        }
        builder.insert(member as u32, row, range.start + own, range.end);
    }
    Ok(builder.finish(rows.len()))
}

impl<T: Copy + Eq + Hash> Builder<'_, T> {
    fn push(&mut self, row: u32, start: usize, len: usize, member: u32) -> u32 {
        self.nodes.push(Node {
            row,
            start,
            len,
            first: NO,
            last: NO,
            next: NO,
            n_children: 0,
            table: NO,
            member,
        });
        self.nodes.len() as u32 - 1
    }

    fn insert(&mut self, member: u32, row: u32, mut at: usize, end: usize) {
        let mut node = 0;
        while at < end {
            let Some(child) = self.find(node, at) else { break };
            let Node { start, len, n_children, .. } = self.nodes[child as usize];
            let same = self.sequences.common(start, at, len.min(end - at));
            if same < len || n_children == 0 {
                self.split(child, same);
            }
            (node, at) = (child, at + same);
        }
        let leaf = self.push(row, at, end - at, member);
        self.append(node, leaf);
    }

    /// The child of `node` that begins with the token at the flat position `at`.
    fn find(&self, node: u32, at: usize) -> Option<u32> {
        let (node, key) = (&self.nodes[node as usize], self.sequences.key(at));
        if node.table != NO {
            return self.tables[node.table as usize].get(&key).copied();
        }
        let mut child = node.first;
        while child != NO {
            let c = &self.nodes[child as usize];
            if c.len > 0 && self.sequences.key(c.start) == key {
                return Some(child);
            }
            child = c.next;
        }
        None
    }

    /// Keeps `keep` tokens in `node`; the rest, its children and its place as a leaf go to a new only child.
    fn split(&mut self, node: u32, keep: usize) {
        let Node { row, start, len, member, .. } = self.nodes[node as usize];
        let rest = self.push(row, start + keep, len - keep, member);
        let upper = &mut self.nodes[node as usize];
        let (first, last, n_children, table) = (upper.first, upper.last, upper.n_children, upper.table);
        (upper.first, upper.last, upper.n_children, upper.table) = (rest, rest, 1, NO);
        (upper.len, upper.member) = (keep, NO);
        let lower = &mut self.nodes[rest as usize];
        (lower.first, lower.last, lower.n_children, lower.table) = (first, last, n_children, table);
    }

    fn append(&mut self, node: u32, child: u32) {
        let parent = &mut self.nodes[node as usize];
        let before = std::mem::replace(&mut parent.last, child);
        parent.n_children += 1;
        let (table, n_children) = (parent.table, parent.n_children);
        if before == NO {
            parent.first = child;
        } else {
            self.nodes[before as usize].next = child;
        }
        if table != NO {
            let c = &self.nodes[child as usize];
            if c.len > 0 {
                let key = self.sequences.key(c.start);
                self.tables[table as usize].insert(key, child);
            }
        } else if n_children > MANY {
            self.make_table(node);
        }
    }

    fn make_table(&mut self, node: u32) {
        let mut table = FxHashMap::default();
        let mut child = self.nodes[node as usize].first;
        while child != NO {
            let c = &self.nodes[child as usize];
            if c.len > 0 {
                table.insert(self.sequences.key(c.start), child);
            }
            child = c.next;
        }
        self.nodes[node as usize].table = self.tables.len() as u32;
        self.tables.push(table);
    }

    fn finish(self, members: usize) -> Tree {
        let mut tree = Tree { leaves: vec![0; members], ..Tree::default() };
        let mut stack = vec![(0u32, -1i64)];
        while let Some((at, parent)) = stack.pop() {
            let (node, id) = (&self.nodes[at as usize], tree.parents.len() as i64);
            tree.parents.push(parent);
            tree.rows.push(i64::from(node.row));
            tree.starts.push((node.start - self.sequences.range(node.row).start) as i64);
            tree.lengths.push(node.len as i64);
            if node.member != NO {
                tree.leaves[node.member as usize] = id;
            }
            if node.next != NO {
                stack.push((node.next, parent));
            }
            if node.first != NO {
                stack.push((node.first, id));
            }
        }
        tree
    }
}
