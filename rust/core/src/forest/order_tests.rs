use super::*;
use proptest::prelude::*;

proptest! {
    /// Trees of any shape: each of the two algorithms can take any tree.
    #[test]
    fn tallies_agree_with_sorting(
        seed in prop::collection::vec((0usize..1000, prop::sample::select(vec![0.0, 1.0, 0.5, -2.0, 1e9, 3.0, 4.0, f64::NAN])), 1..90),
        reach in prop::sample::select(vec![1usize, 2, 5, 200]),
        q in 0.0f64..=1.0,
        k in 1usize..9,
    ) {
        let above = |i: usize| if i == 0 { -1 } else { (i - 1 - seed[i].0 % reach.min(i)) as i64 };
        let parents: Vec<i64> = (0..seed.len()).map(above).collect();
        let f = Forest::from_parents(&parents, None).unwrap();
        let mut before = Vec::new();
        let tree = Tree::new(&f.end, 0, &mut before);
        let values: Vec<f64> = f.rollouts.iter().map(|&r| seed[r as usize].1).collect();
        for what in [Order::Quantile(q), Order::TopMean(k)] {
            let (mut a, mut b) = (vec![0.0; f.len()], vec![0.0; f.len()]);
            sorted(&tree, &mut values.clone(), what, &mut a);
            tallied(&tree, &values, what, &mut b);
            for (x, y) in a.iter().zip(&b) {
                prop_assert!(x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-12 * x.abs().max(1.0));
            }
        }
    }
}

#[test]
fn only_deep_trees_are_tallied() {
    let mut before = Vec::new();
    let chain: Vec<i64> = (-1..9999).collect();
    let f = Forest::from_parents(&chain, None).unwrap();
    assert!(Tree::new(&f.end, 0, &mut before).is_shallow());
    let comb: Vec<i64> = (0..9999).map(|v| if v % 2 == 0 { v - 2 } else { v - 1 }.max(-1)).collect();
    let f = Forest::from_parents(&comb, None).unwrap();
    assert!(!Tree::new(&f.end, 0, &mut before).is_shallow());
    let binary: Vec<i64> = (0..16383).map(|v| (v - 1) / 2 - i64::from(v == 0)).collect();
    let f = Forest::from_parents(&binary, None).unwrap();
    assert!(Tree::new(&f.end, 0, &mut before).is_shallow());
}
