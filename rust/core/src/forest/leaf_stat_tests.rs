use super::*;
use proptest::prelude::*;

/// Into a new vector.
fn leaf_stat<T: Real>(forest: &Forest, x: &[T], what: LeafStat, par: Par) -> Result<Vec<T>> {
    let mut out = vec![T::narrow(9.0); forest.len()];
    super::leaf_stat(forest, x, what, &mut out, par)?;
    Ok(out)
}

fn leaves_below(f: &Forest, x: &[f64], v: usize) -> Vec<f64> {
    let below = |leaf: u32| {
        let mut at = leaf;
        while at != super::super::NONE && at as usize != v {
            at = f.parents()[at as usize];
        }
        at as usize == v
    };
    let mut found: Vec<f64> =
        f.leaves().iter().zip(x).filter(|(leaf, _)| below(**leaf)).map(|(_, x)| *x).collect();
    found.sort_by(f64::total_cmp);
    found
}

#[test]
fn the_reference_forest() {
    let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
    let r = [0.0f32, 1.0, 0.0, 1.0, 1.0, 0.0];
    let run = |what| leaf_stat(&f, &r, what, Par::Serial).unwrap();
    assert_eq!(run(LeafStat::Mean)[..2], [0.5, 0.5]);
    assert_eq!(run(LeafStat::Var { ddof: 0 })[..2], [0.25, 0.25]);
    assert_eq!(run(LeafStat::Std { ddof: 0 })[..2], [0.5, 0.5]);
    assert!((run(LeafStat::Var { ddof: 1 })[0] - 0.3).abs() < 1e-15);
    assert!(run(LeafStat::Var { ddof: 1 })[3].is_nan());
    assert_eq!(run(LeafStat::Quantile { q: 0.5 })[..4], [0.5, 0.5, 1.0, 0.0]);
    assert_eq!(run(LeafStat::TopMean { k: 3 })[..4], [1.0, 0.5, 2.0 / 3.0, 0.0]);
    assert!(leaf_stat(&f, &r, LeafStat::TopMean { k: 0 }, Par::Serial).is_err());
    assert!(leaf_stat(&f, &r, LeafStat::Quantile { q: f64::NAN }, Par::Serial).is_err());
    assert!(leaf_stat(&f, &r[1..], LeafStat::Mean, Par::Serial).is_err());
}

#[test]
fn a_million_nodes_deep() {
    // Nodes 0, 2, 4, ... are a chain, and each has a leaf.
    let n = 1_000_000i64;
    let parents: Vec<i64> = (0..n).map(|v| if v % 2 == 0 { v - 2 } else { v - 1 }.max(-1)).collect();
    let f = Forest::from_parents(&parents, None).unwrap();
    let x: Vec<f64> = (0..f.n_leaves()).map(|i| (i * 7919 % 1009) as f64).collect();
    let run = |what| leaf_stat(&f, &x, what, Par::Serial).unwrap();
    let mut sorted = x.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(run(LeafStat::Quantile { q: 1.0 })[0], 1008.0);
    assert_eq!(run(LeafStat::TopMean { k: 3 })[0], 1008.0);
    let mean = sorted.iter().sum::<f64>() / x.len() as f64;
    let squares: f64 = sorted.iter().map(|v| (v - mean) * (v - mean)).sum();
    let var = run(LeafStat::Var { ddof: 0 })[0];
    assert!((var / (squares / x.len() as f64) - 1.0).abs() < 1e-11, "{var}");
}

proptest! {
    #[test]
    fn against_sorting_the_leaves(
        seed in prop::collection::vec((0usize..1000, prop::sample::select(vec![0.0, 1.0, 0.5, 1e9, -2.0, 1e-9])), 1..120),
        reach in prop::sample::select(vec![1usize, 2, 200]),
        q in 0.0f64..=1.0,
        k in 1usize..9,
    ) {
        // With a short reach the tree is deep, and the tally is used.
        let n = seed.len();
        let above = |i: usize| if i < 2 { i as i64 - 1 } else { (i - 1 - seed[i].0 % reach.min(i)) as i64 };
        let parents: Vec<i64> = (0..n).map(above).collect();
        let f = Forest::from_parents(&parents, None).unwrap();
        let x: Vec<f64> = f.leaves().iter().map(|&v| seed[v as usize].1).collect();
        let run = |what| leaf_stat(&f, &x, what, Par::Threads).unwrap();
        let (quantile, top, var) =
            (run(LeafStat::Quantile { q }), run(LeafStat::TopMean { k }), run(LeafStat::Var { ddof: 0 }));
        for v in 0..n {
            let s = leaves_below(&f, &x, v);
            let place = (s.len() - 1) as f64 * q;
            let (a, b) = (s[place as usize], s[(place.ceil() as usize).min(s.len() - 1)]);
            prop_assert!((quantile[v] - (a + (b - a) * place.fract())).abs() <= 1e-6 * b.abs().max(1e-9));
            let largest = &s[s.len() - k.min(s.len())..];
            let mean = largest.iter().sum::<f64>() / largest.len() as f64;
            prop_assert!((top[v] - mean).abs() <= 1e-12 * mean.abs().max(1.0));
            let mean = s.iter().sum::<f64>() / s.len() as f64;
            let squares = s.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / s.len() as f64;
            prop_assert!((var[v] - squares).abs() <= 1e-11 * squares.max(1e-20));
            prop_assert_eq!(var[v] == 0.0, s[0] == s[s.len() - 1]);
        }
    }
}
