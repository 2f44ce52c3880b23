use proptest::prelude::*;

use super::super::{Per, expand, token_index};
use super::*;

fn forest(
    lists: &[Vec<i32>],
    ids: &[i64],
    prompts: Option<&[i64]>,
    payload: Option<&[i64]>,
) -> Result<Forest> {
    let tokens = lists.concat();
    let mut offsets = vec![0i64];
    offsets.extend(lists.iter().scan(0, |at, l| {
        *at += l.len() as i64;
        Some(*at)
    }));
    let sequences = Sequences { tokens: &tokens, offsets: &offsets, prompts, payload };
    let groups = Groups::from_ids(ids).unwrap();
    let serial = from_sequences(sequences, &groups, Par::Serial);
    assert_eq!(serial, from_sequences(sequences, &groups, Par::Threads));
    serial
}

fn spans(f: &Forest) -> Vec<(i64, i64, i64)> {
    let s = f.spans().unwrap();
    let (rows, starts) = s.places().unwrap();
    (0..f.len()).map(|v| (rows[v], starts[v], s.lengths()[v])).collect()
}

fn parents(f: &Forest) -> Vec<i64> {
    f.parents().iter().map(|&p| i64::from(p as i32)).collect()
}

#[test]
fn by_hand() {
    let f =
        forest(&[vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2, 3, 6], vec![7]], &[0; 4], None, None).unwrap();
    assert_eq!(parents(&f), [-1, 0, 1, 2, 2, 1, 0]);
    assert_eq!(spans(&f), [(0, 0, 0), (0, 0, 2), (0, 2, 1), (0, 3, 1), (2, 3, 1), (1, 2, 1), (3, 0, 1)]);
    assert_eq!(f.leaves(), [3, 5, 4, 6]);
    assert_eq!(token_index(&f, false, Par::Serial).unwrap(), [0, 1, 2, 3, 6, 10, 11]);
}

#[test]
fn every_sequence_owns_a_leaf() {
    // Extended, equal, prefix of both, empty.
    let f = forest(&[vec![1], vec![1, 2], vec![1, 2], vec![1], vec![]], &[0; 5], None, None).unwrap();
    assert_eq!(parents(&f), [-1, 0, 1, 1, 3, 3, 1, 0]);
    assert_eq!(f.leaves(), [2, 4, 5, 6, 7]);
    assert_eq!(spans(&f)[2..], [(0, 1, 0), (1, 1, 1), (1, 2, 0), (2, 2, 0), (3, 1, 0), (4, 0, 0)]);
}

#[test]
fn groups_and_payloads_keep_tokens_apart() {
    let lists = [vec![1, 2], vec![1, 3], vec![1, 2]];
    let f = forest(&lists, &[5, 4, 5], None, None).unwrap();
    assert_eq!((f.n_trees(), parents(&f)), (2, vec![-1, 0, 1, 1, -1, 4]));
    let f = forest(&lists, &[0; 3], None, Some(&[0, 0, 9, 0, 0, 1])).unwrap();
    assert_eq!(parents(&f), [-1, 0, 1, 1, 0]);
}

#[test]
fn prompts() {
    let lists = [vec![8, 9, 1], vec![8, 9], vec![8, 9, 1, 2]];
    let f = forest(&lists, &[0; 3], Some(&[2, 2, 2]), None).unwrap();
    assert_eq!(spans(&f), [(0, 0, 2), (0, 2, 1), (0, 3, 0), (2, 3, 1), (1, 2, 0)]);
    let text = |prompts| forest(&lists, &[0; 3], Some(prompts), None).unwrap_err().to_string();
    assert!(text(&[2, 1, 2]).contains("got 0 and 1, which differ at token 1"));
    assert!(text(&[3, 2, 3]).contains("got 0 and 1, which differ at token 2"));
    assert!(text(&[2, 3, 2]).contains("between 0 and the length 2 of its sequence, got 3 for sequence 1"));
    assert!(text(&[2, 2]).contains("must have length 3"));
}

#[test]
fn many_children_are_found_and_moved() {
    // 100 children below (1, 2), which is then split.
    let mut lists: Vec<Vec<i32>> = (0..100).map(|i| vec![1, 2, i, i]).collect();
    lists.extend((0..100).map(|i| vec![1, 2, i, 7]));
    lists.push(vec![1, 3]);
    lists.push(vec![1, 2, 5, 5]);
    let f = forest(&lists, &vec![0; lists.len()], None, None).unwrap();
    assert_eq!(token_index(&f, false, Par::Serial).unwrap().len(), 2 + 100 * 2 + 99 + 1);
}

#[test]
fn nested_prefixes_and_duplicates_are_not_quadratic() {
    let chain: Vec<Vec<i32>> = (0..1500).rev().map(|n| (0..n).collect()).collect();
    let f = forest(&chain, &vec![0; chain.len()], None, None).unwrap();
    assert_eq!(f.depth().iter().max(), Some(&1499));
    let same = vec![vec![3]; 100_000];
    assert_eq!(forest(&same, &vec![0; same.len()], None, None).unwrap().len(), 100_002);
}

proptest! {
    #[test]
    fn paths_spell_the_sequences(
        lists in prop::collection::vec((prop::collection::vec(0i32..3, 0..40), 0i64..3), 0..40),
    ) {
        let (lists, ids): (Vec<_>, Vec<_>) = lists.into_iter().unzip();
        let f = forest(&lists, &ids, None, None).unwrap();
        let flat = lists.concat();
        // Each node's tokens once, read back through the spans; then once more for each rollout.
        let index = token_index(&f, false, Par::Serial).unwrap();
        prop_assert!(index.windows(2).all(|w| w[0] < w[1]));
        let mut unique = std::collections::HashSet::new();
        for (list, &id) in lists.iter().zip(&ids) {
            (1..=list.len()).for_each(|n| { unique.insert((id, &list[..n])); });
        }
        prop_assert_eq!(index.len(), unique.len());
        let nodes: Vec<i64> = (0..f.len() as i64).collect();
        let e = expand(&f, &nodes, Per::Rollout, false, Par::Serial).unwrap();
        let spans = spans(&f);
        let mut at = 0;
        for (list, w) in lists.iter().zip(e.offsets.windows(2)) {
            prop_assert_eq!((w[1] - w[0]) as usize, list.len());
            for (k, &node) in e.values[w[0] as usize..w[1] as usize].iter().enumerate() {
                let (row, start, length) = spans[node as usize];
                prop_assert!((start..start + length).contains(&(k as i64)));
                prop_assert_eq!(lists[row as usize][k], flat[at]);
                at += 1;
            }
        }
    }
}
