//! A forest from the parent of each node.

use super::{Forest, NONE, Numbering, structure};
use crate::error::{Error, Result, check_len};
use crate::groups::MAX_ROWS;

impl Forest {
    /// From the parent of each node, -1 for roots; nodes may come in any order. `leaves` gives the leaf of each
    /// rollout; without it there is one rollout a leaf, by ascending node id.
    ///
    /// # Errors
    /// [`Error::Structure`] for a parent out of range, a cycle, or `leaves` that do not name every leaf once.
    pub fn from_parents(parents: &[i64], leaves: Option<&[i64]>) -> Result<Self> {
        let (parents, rising) = checked(parents)?;
        let n = parents.len();
        let Shape { order, end, trees, leaf } =
            if rising { rising_shape(&parents) } else { shape(&parents)? };

        let is_leaf = |node: u32| leaf[node as usize];
        let mut found: Vec<u32> = (0..n as u32).filter(|&v| is_leaf(v)).collect();
        if let Some(given) = leaves {
            found = checked_leaves(given, n, found.len(), is_leaf)?;
        }
        let (mut same, mut tree_by_tree) = (true, true);
        let mut leaf_ends = Vec::with_capacity(trees.len());
        // By place, the leaves; then their rollouts.
        let mut rollouts = Vec::with_capacity(found.len());
        leaf_ends.push(0);
        for w in trees.windows(2) {
            for place in w[0]..w[1] {
                let node = order[place] as usize;
                same &= node == place;
                tree_by_tree &= (w[0]..w[1]).contains(&node);
                if end[place] as usize == place + 1 {
                    rollouts.push(node as u32);
                }
            }
            leaf_ends.push(rollouts.len());
        }
        let numbering = match tree_by_tree {
            true if same => Numbering::Preorder,
            true => Numbering::TreeByTree,
            false => Numbering::Mixed,
        };
        if rollouts == found {
            rollouts.iter_mut().zip(0..).for_each(|(r, k)| *r = k);
        } else {
            let mut rollout_of = vec![NONE; n];
            for (rollout, &leaf) in found.iter().enumerate() {
                rollout_of[leaf as usize] = rollout as u32;
            }
            rollouts.iter_mut().for_each(|r| *r = rollout_of[*r as usize]);
        }
        let mut rank = Vec::new();
        if numbering == Numbering::Mixed {
            rank.resize(n, 0);
            for (&node, place) in order.iter().zip(0..) {
                rank[node as usize] = place;
            }
        }
        Ok(Self {
            leaf_ends,
            numbering,
            parents,
            rank,
            order,
            end,
            trees,
            leaves: found,
            rollouts,
            spans: None,
        })
    }
}

/// Narrows the parents; -1 becomes [`NONE`]. True if every parent comes before its children.
fn checked(parents: &[i64]) -> Result<(Vec<u32>, bool)> {
    let n = parents.len();
    if n as u64 >= MAX_ROWS {
        return Err(Error::TooLarge { arg: "parents", limit: MAX_ROWS - 1, got: n as u64 });
    }
    // Without an early end, so that it is a vector loop; what is wrong is looked for afterwards.
    let (mut fits, mut rising) = (true, true);
    for (node, &p) in (0i64..).zip(parents) {
        fits &= (p >= -1) & (p < n as i64) & (p != node);
        rising &= p < node;
    }
    if fits {
        return Ok((parents.iter().map(|&p| p as u32).collect(), rising));
    }
    let wrong = (0i64..).zip(parents).find(|&(node, &p)| p < -1 || p >= n as i64 || p == node);
    structure(
        "parents",
        match wrong {
            Some((node, &p)) if p == node => {
                format!("must not make a node its own parent, got {p} for node {node}; a root has -1")
            }
            Some((node, p)) => {
                format!("must be -1 (a root) or a node from 0 to {}, got {p} for node {node}", n - 1)
            }
            None => String::new(),
        },
    )
}

/// The depth-first preorder, see the fields of [`Forest`]; and which nodes have no children.
struct Shape {
    order: Vec<u32>,
    end: Vec<u32>,
    trees: Vec<usize>,
    leaf: Vec<bool>,
}

/// Where parents come before their children, which is how most make their trees: backwards for the sizes of subtrees, and
/// forwards to hand each child the interval after that of its last sibling.
fn rising_shape(parents: &[u32]) -> Shape {
    let n = parents.len();
    let mut size = vec![1u32; n];
    for (v, &p) in parents.iter().enumerate().rev() {
        if p != NONE {
            size[p as usize] += size[v];
        }
    }
    let leaf = size.iter().map(|&s| s == 1).collect();
    let (mut order, mut end) = (vec![0u32; n], vec![0u32; n]);
    // From here on `free[v]` is the place of the next child of `v`; sizes are read before they are overwritten.
    let (mut free, mut trees, mut next_tree) = (size, Vec::new(), 0);
    for (v, &p) in parents.iter().enumerate() {
        let size = free[v];
        let next = if p == NONE {
            trees.push(next_tree as usize);
            &mut next_tree
        } else {
            &mut free[p as usize]
        };
        let place = *next;
        *next += size;
        free[v] = place + 1;
        order[place as usize] = v as u32;
        end[place as usize] = place + size;
    }
    trees.push(n);
    Shape { order, end, trees, leaf }
}

/// For any numbering.
fn shape(parents: &[u32]) -> Result<Shape> {
    let n = parents.len();
    let (order, trees) = preorder(parents)?;
    let mut rank = vec![0u32; n];
    for (&node, place) in order.iter().zip(0..) {
        rank[node as usize] = place;
    }
    let mut leaf = vec![true; n];
    let mut end: Vec<u32> = (1..=n as u32).collect();
    for place in (0..n).rev() {
        let parent = parents[order[place] as usize];
        if parent != NONE {
            let above = rank[parent as usize] as usize;
            end[above] = end[above].max(end[place]);
            leaf[parent as usize] = false;
        }
    }
    Ok(Shape { order, end, trees, leaf })
}

/// Nodes in depth-first preorder, and where each tree starts in it.
fn preorder(parents: &[u32]) -> Result<(Vec<u32>, Vec<usize>)> {
    let n = parents.len();
    // Children of each node in id order, by counting: those of `v` are `children[start[v]..start[v + 1]]`.
    let mut start = vec![0u32; n + 1];
    for &p in parents.iter().filter(|&&p| p != NONE) {
        start[p as usize + 1] += 1;
    }
    for v in 0..n {
        start[v + 1] += start[v];
    }
    let (mut next, mut children) = (start.clone(), vec![0u32; start[n] as usize]);
    for (node, &p) in parents.iter().enumerate().filter(|&(_, &p)| p != NONE) {
        children[next[p as usize] as usize] = node as u32;
        next[p as usize] += 1;
    }

    let (mut order, mut trees, mut stack) = (Vec::with_capacity(n), Vec::new(), Vec::new());
    for root in (0..n as u32).filter(|&v| parents[v as usize] == NONE) {
        trees.push(order.len());
        stack.push(root);
        while let Some(v) = stack.pop() {
            order.push(v);
            let below = start[v as usize] as usize..start[v as usize + 1] as usize;
            stack.extend(children[below].iter().rev());
        }
    }
    if order.len() < n {
        return structure("parents", format!("must not have a cycle, got {}", cycle(parents, &order)));
    }
    trees.push(n);
    Ok((order, trees))
}

/// A cycle in words, starting at its smallest node; every node that no root reaches leads into one.
fn cycle(parents: &[u32], reached: &[u32]) -> String {
    let mut seen = vec![false; parents.len()];
    for &v in reached {
        seen[v as usize] = true;
    }
    let mut at = seen.iter().position(|s| !s).unwrap_or(0);
    while !seen[at] {
        seen[at] = true;
        at = parents[at] as usize;
    }
    let mut nodes = vec![at];
    let mut next = parents[at] as usize;
    while next != at {
        nodes.push(next);
        next = parents[next] as usize;
    }
    let smallest = (0..nodes.len()).min_by_key(|&i| nodes[i]).unwrap_or(0);
    nodes.rotate_left(smallest);
    let mut names: Vec<String> = nodes.iter().take(6).map(usize::to_string).collect();
    if nodes.len() > names.len() {
        names.push("...".into());
    }
    names.push(nodes[0].to_string());
    format!("{} (each the child of the next)", names.join(" -> "))
}

fn checked_leaves(
    given: &[i64],
    n: usize,
    n_leaves: usize,
    is_leaf: impl Fn(u32) -> bool,
) -> Result<Vec<u32>> {
    check_len("leaves", given.len(), n_leaves, "the number of nodes without children")?;
    let mut taken = vec![false; n];
    let mut leaves = Vec::with_capacity(given.len());
    for (rollout, &leaf) in given.iter().enumerate() {
        if leaf < 0 || leaf >= n as i64 || !is_leaf(leaf as u32) || taken[leaf as usize] {
            let text = format!("must name each node without children once, got {leaf} for rollout {rollout}");
            return structure("leaves", text);
        }
        taken[leaf as usize] = true;
        leaves.push(leaf as u32);
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn preorder_of_the_reference_forest() {
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        assert_eq!(f.order(), [0, 1, 4, 5, 2, 6, 7, 8, 3]);
        assert_eq!(f.subtree_end(), [9, 4, 3, 4, 8, 6, 7, 8, 9]);
        assert_eq!(f.depth(), [0, 1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!(f.leaves(), [3, 4, 5, 6, 7, 8]);
        assert_eq!(f.siblings().unwrap().index(), [0, 1, 1, 1, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn children_may_come_first_and_trees_may_be_mixed() {
        let f = Forest::from_parents(&[2, 4, -1, 2, -1], None).unwrap();
        assert_eq!(f.order(), [2, 0, 3, 4, 1]);
        assert_eq!(f.trees(), [0, 3, 5]);
        assert_eq!(f.roots().collect::<Vec<_>>(), [2, 4]);
        assert_eq!(f.tree_index(), [0, 1, 0, 0, 1]);
    }

    #[test]
    fn empty_and_deep() {
        let f = Forest::from_parents(&[], None).unwrap();
        assert_eq!((f.len(), f.n_trees(), f.n_leaves()), (0, 0, 0));
        let chain: Vec<i64> = (-1..999_999).collect();
        let f = Forest::from_parents(&chain, None).unwrap();
        assert_eq!((f.n_leaves(), f.depth()[999_999]), (1, 999_999));
    }

    #[test]
    fn messages() {
        let text = |p: &[i64]| Forest::from_parents(p, None).unwrap_err().to_string();
        assert!(text(&[-1, 2, 1]).ends_with("got 1 -> 2 -> 1 (each the child of the next)"));
        assert!(text(&[1, 2, 3, 2]).ends_with("got 2 -> 3 -> 2 (each the child of the next)"));
        assert!(text(&[-1, 1]).contains("its own parent, got 1 for node 1"));
        assert!(text(&[-1, 2]).contains("from 0 to 1, got 2 for node 1"));
        assert!(text(&[-2]).contains("got -2 for node 0"));
        let bad = Forest::from_parents(&[-1, 0, 0], Some(&[1, 1])).unwrap_err();
        assert!(bad.to_string().contains("got 1 for rollout 1"));
    }

    proptest! {
        #[test]
        fn both_ways_to_the_preorder_agree(seed in prop::collection::vec((0usize..1000, 1usize..1000), 0..60)) {
            let above = |i: usize| if seed[i].0 % 5 == 0 { 0 } else { i - seed[i].1 % (i + 1) };
            let parents: Vec<u32> = (0..seed.len()).map(|i| (above(i) as u32).wrapping_sub(1)).collect();
            let (a, b) = (rising_shape(&parents), shape(&parents).unwrap());
            prop_assert_eq!((a.order, a.end), (b.order, b.end));
            prop_assert_eq!((a.trees, a.leaf), (b.trees, b.leaf));
        }

        #[test]
        fn intervals_hold_exactly_the_descendants(seed in prop::collection::vec(0usize..1000, 1..60)) {
            // Node i hangs below an earlier one; then ids are reversed, so that parents follow their children.
            let n = seed.len();
            let flip = |v: i64| if v < 0 { -1 } else { n as i64 - 1 - v };
            let mut parents: Vec<i64> = (0..n).map(|i| flip((seed[i] % (i + 1)) as i64 - 1)).collect();
            parents.reverse();
            let f = Forest::from_parents(&parents, None).unwrap();
            let rank = |v: usize| f.order().iter().position(|&u| u as usize == v).unwrap();
            for v in 0..n {
                let place = rank(v);
                for u in 0..n {
                    let (mut at, mut below) = (u as i64, u == v);
                    while parents[at as usize] >= 0 {
                        at = parents[at as usize];
                        below |= at == v as i64;
                    }
                    let inside = (place..f.end[place] as usize).contains(&rank(u));
                    prop_assert_eq!(below, inside);
                }
            }
        }
    }
}
