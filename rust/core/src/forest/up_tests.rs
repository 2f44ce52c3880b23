use super::*;
use proptest::prelude::*;

/// Into a new vector.
fn up<T: Real>(
    forest: &Forest,
    x: &[T],
    how: Up,
    weights: Option<&[f64]>,
    empty: f64,
    par: Par,
) -> Result<Vec<T>> {
    let mut out = vec![T::narrow(9.0); forest.len()];
    super::up(forest, x, how, weights, empty, &mut out, par)?;
    Ok(out)
}

#[test]
fn the_reference_forest() {
    let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
    let r: [f64; 6] = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    let run = |how| up(&f, &r, how, None, f64::NAN, Par::Serial).unwrap();
    let third = 2.0 / 3.0;
    let mean = run(Up::MeanOfChildren);
    assert_eq!(mean[1..], [0.5, third, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    assert!((mean[0] - 0.388_888_888_888_888_9).abs() < 1e-15);
    assert_eq!(run(Up::LeafMean)[..4], [0.5, 0.5, third, 0.0]);
    assert_eq!(run(Up::Sum)[..4], [3.0, 1.0, 2.0, 0.0]);
    assert_eq!(run(Up::Max)[..4], [1.0, 1.0, 1.0, 0.0]);
    assert_eq!(run(Up::Min)[..4], [0.0, 0.0, 0.0, 0.0]);
    assert_eq!(f.leaf_counts(), [6, 2, 3, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn equal_values_are_their_own_mean() {
    let parents: Vec<i64> = [-1].into_iter().chain([0; 12]).collect();
    let f = Forest::from_parents(&parents, None).unwrap();
    for how in [Up::MeanOfChildren, Up::LeafMean] {
        assert_eq!(up(&f, &[0.7; 12], how, None, f64::NAN, Par::Serial).unwrap(), [0.7; 13]);
    }
}

const HOWS: [Up; 12] = [
    Up::Sum,
    Up::MeanOfChildren,
    Up::LeafMean,
    Up::Max,
    Up::Min,
    Up::Any,
    Up::All,
    Up::LogMeanExpOfChildren { beta: 0.3 },
    Up::LogMeanExpOfChildren { beta: 1e6 },
    Up::LeafLogMeanExp { beta: 0.0 },
    Up::LeafLogMeanExp { beta: 0.3 },
    Up::LeafLogMeanExp { beta: f64::INFINITY },
];

#[test]
fn weights_take_branches_out() {
    let f = Forest::from_parents(&[-1, 0, 0, 0, 1, 1, 2, 2, 2], None).unwrap();
    let w = [9.0, 2.0, 1.0, 0.0, 3.0, 0.0, 1.0, 2.0, 3.0];
    let x = [f64::NAN, 1.0, f64::INFINITY, 4.0, 1.0, 0.0];
    let run = |how| up(&f, &x, how, Some(&w), -7.0, Par::Serial).unwrap();
    assert_eq!(run(Up::MeanOfChildren)[..3], [1.0, 1.0, 1.0]);
    assert_eq!(run(Up::LeafMean)[0], 1.0);
    assert_eq!(run(Up::Sum)[..3], [12.0, 3.0, 6.0]);
    assert_eq!(run(Up::Max)[..3], [4.0, 1.0, 4.0]);
    assert_eq!(run(Up::All)[..3], [0.0, 1.0, 0.0]);
    for how in HOWS {
        let none = up(&f, &x, how, Some(&[0.0; 9]), -7.0, Par::Serial).unwrap();
        assert_eq!(none[..3], [-7.0; 3]);
    }
}

#[test]
fn bad_parameters_are_errors() {
    let f = Forest::from_parents(&[-1, 0, 0], None).unwrap();
    let run = |how, w: &[f64]| up(&f, &[1.0, 2.0], how, Some(w), 0.0, Par::Serial).unwrap_err().to_string();
    assert!(run(Up::Sum, &[1.0]).contains("'weights' must have length 3"));
    assert!(run(Up::Sum, &[1.0, 1.0, -1.0]).contains("got -1 at index 2"));
    assert!(run(Up::Sum, &[f64::NAN; 3]).contains("got NaN at index 0"));
    assert!(run(Up::LeafLogMeanExp { beta: -1.0 }, &[1.0; 3]).contains("'beta' must be at least 0, got -1"));
    assert!(up(&f, &[1.0], Up::Sum, None, 0.0, Par::Serial).is_err());
}

#[test]
fn nan_is_seen_by_every_fold() {
    let f = Forest::from_parents(&[-1, 0, 0], None).unwrap();
    for how in HOWS {
        for x in [[1.0, f64::NAN], [f64::NAN, 1.0]] {
            assert!(up(&f, &x, how, None, f64::NAN, Par::Serial).unwrap()[0].is_nan());
        }
    }
}

proptest! {
    #[test]
    fn renumbering_nodes_changes_no_bit(
        seed in prop::collection::vec((0usize..1000, -1e6f64..1e6), 1..80),
        turn in 0usize..80,
    ) {
        let n = seed.len();
        let parents: Vec<i64> = (0..n).map(|i| (seed[i].0 % (i + 1)) as i64 - 1).collect();
        let to = |v: i64| if v < 0 { -1 } else { (v + turn as i64) % n as i64 };
        let mut turned = vec![0; n];
        for v in 0..n {
            turned[to(v as i64) as usize] = to(parents[v]);
        }
        let a = Forest::from_parents(&parents, None).unwrap();
        let b = Forest::from_parents(&turned, None).unwrap();
        let xa: Vec<f64> = a.leaves().iter().map(|&v| seed[v as usize].1).collect();
        let xb: Vec<f64> = b.leaves().iter().map(|&v| seed[(v as usize + n - turn % n) % n].1).collect();
        let wa: Vec<f64> = seed.iter().map(|s| [0.0, 1.0, 1.0, 0.3, 1e-200][s.0 % 5]).collect();
        let wb: Vec<f64> = (0..n).map(|v| wa[(v + n - turn % n) % n]).collect();
        for how in HOWS {
            for (wa, wb) in [(None, None), (Some(&wa[..]), Some(&wb[..]))] {
                let p = up(&a, &xa, how, wa, -1.0, Par::Serial).unwrap();
                let q = up(&b, &xb, how, wb, -1.0, Par::Threads).unwrap();
                for v in 0..n {
                    prop_assert_eq!(p[v].to_bits(), q[to(v as i64) as usize].to_bits());
                }
            }
        }
    }
}
