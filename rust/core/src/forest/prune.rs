//! Leaving out rollouts, and the branches that only they used.

use super::{Forest, NONE};
use crate::error::Result;

/// The forest of the rollouts with a nonzero `keep`, and the old ids of its nodes, ascending.
///
/// A node stays if a kept leaf is below it, so an inner node never becomes a leaf. Rollouts and nodes keep their
/// order and are numbered anew; spans still point into the same rows.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `keep` is not of one value a rollout.
pub fn prune(forest: &Forest, keep: &[u8]) -> Result<(Forest, Vec<u32>)> {
    forest.check_rollouts("keep", keep.len())?;
    let mut id = vec![NONE; forest.len()];
    let kept_leaves = || forest.leaves.iter().zip(keep).filter(|(_, k)| **k != 0);
    for (&leaf, _) in kept_leaves() {
        // Upwards until a node that an earlier rollout has marked: every node is marked once.
        let mut v = leaf;
        while v != NONE && id[v as usize] == NONE {
            id[v as usize] = 0;
            v = forest.parents[v as usize];
        }
    }
    let nodes: Vec<u32> = (0..forest.len() as u32).filter(|&v| id[v as usize] != NONE).collect();
    for (new, &old) in nodes.iter().enumerate() {
        id[old as usize] = new as u32;
    }
    let renumber = |v: u32| if v == NONE { -1 } else { i64::from(id[v as usize]) };
    let parents: Vec<i64> = nodes.iter().map(|&v| renumber(forest.parents[v as usize])).collect();
    let leaves: Vec<i64> = kept_leaves().map(|(&leaf, _)| renumber(leaf)).collect();
    let mut pruned = Forest::from_parents(&parents, Some(&leaves))?;
    pruned.spans = forest.spans.as_ref().map(|s| s.take(&nodes));
    Ok((pruned, nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::Spans;

    #[test]
    fn branches_without_a_kept_leaf_go() {
        let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
        let f = f.with_spans(Spans::from_lengths((0..9).collect()).unwrap()).unwrap();
        let (p, nodes) = prune(&f, &[1, 0, 0, 0, 2, 0]).unwrap();
        assert_eq!(nodes, [0, 2, 3, 7]);
        assert_eq!(p.parents(), [NONE, 0, 0, 1]);
        assert_eq!(p.leaves(), [2, 3]);
        assert_eq!(p.spans().unwrap().lengths(), [0, 2, 3, 7]);
        let (p, nodes) = prune(&f, &[0; 6]).unwrap();
        assert_eq!((p.len(), nodes.len()), (0, 0));
        assert!(prune(&f, &[1; 5]).is_err());
    }
}
