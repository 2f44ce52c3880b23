//! Laws and hand-checked numbers; the comparison with enumerated active sets is in the Python tests.

use super::*;
use proptest::prelude::*;

fn project(
    x: &[f64],
    edges: &[(i64, i64)],
    margin: f64,
    norm: Norm,
    radius: Option<f64>,
) -> (Vec<f64>, Status) {
    let (from, to): (Vec<i64>, Vec<i64>) = edges.iter().copied().unzip();
    let groups = Groups::from_ids(&vec![0; x.len()]).unwrap();
    let edges = Edges { from: &from, to: &to, margin: Each::One(margin) };
    let (a, s) = order_project(&groups, x, edges, norm, radius.map(Each::One), Par::Serial).unwrap();
    (a, s[0])
}

fn in_order(a: &[f64], edges: &[(i64, i64)], margin: f64) -> bool {
    edges.iter().all(|&(i, j)| a[j as usize] - a[i as usize] >= margin - 1e-12)
}

#[test]
fn pools_by_hand() {
    let (a, _) = project(&[0.5, -0.2, 0.0, -0.3], &[(0, 1), (1, 2)], 0.0, Norm::Free, None);
    for (got, want) in a.iter().zip([0.1, 0.1, 0.1, -0.3]) {
        assert!((got - want).abs() < 1e-16);
    }
    let x = [-0.2, -0.2, 0.8, -0.2, -0.2];
    let edges = [(0, 2), (1, 2), (1, 3)];
    let (a, s) = project(&x, &edges, 0.01, Norm::Ball, None);
    assert_eq!(s, Status::Solved);
    for (got, want) in a.iter().zip([-0.2, -0.205, 0.8, -0.195, -0.2]) {
        assert!((got - want).abs() < 1e-15);
    }
    let (a, s) = project(&x, &edges, 0.01, Norm::Sphere, None);
    assert_eq!(s, Status::Solved);
    assert!((a.iter().map(|v| v * v).sum::<f64>() - 5.0).abs() < 1e-14);
    for (got, want) in a.iter().zip([-0.499997, -0.504997, 1.99999, -0.494997, -0.499998]) {
        assert!((got - want).abs() < 3e-6);
    }
}

#[test]
fn every_status() {
    assert_eq!(project(&[0.0, 0.0], &[(0, 1)], 0.0, Norm::Sphere, None), (vec![0.0, 0.0], Status::Saturated));
    let (a, s) = project(&[1.0, -1.0], &[(0, 1)], 0.5, Norm::Sphere, None);
    assert_eq!((a, s), (vec![-0.25, 0.25], Status::Saturated));
    let (a, s) = project(&[1.0, 0.0], &[(0, 1)], 4.0, Norm::Ball, None);
    assert_eq!((a, s), (vec![-2.0, 2.0], Status::Infeasible));
    for x in [[0.0, 1.0], [0.0, 0.0], [1.0, -1.0]] {
        let (a, s) = project(&x, &[(0, 1)], 4.0, Norm::Sphere, Some(1.0));
        assert_eq!((a, s), (vec![-2.0, 2.0], Status::Infeasible));
    }
    // Just long enough.
    let (a, s) = project(&[0.0, 0.0], &[(0, 1)], 2.0, Norm::Sphere, None);
    assert_eq!((a, s), (vec![-1.0, 1.0], Status::Solved));
}

#[test]
fn a_budget_that_runs_out_is_said() {
    // A diamond of which the first forest leaves out an edge that its values violate.
    let mut solver = Solver::default();
    (solver.x, solver.spent) = (vec![3.0, 0.0, 1.0, 10.0], u64::MAX / 2);
    for (from, to) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        solver.order.push(from, to, 0.0);
    }
    solver.order.sort(4).unwrap();
    assert_eq!(solver.run(Norm::Free, 1.0, 1e-15), Status::Unfinished);
    assert_eq!(solver.out.len(), 4);
    solver.spent = 0;
    assert_eq!(solver.run(Norm::Free, 1.0, 1e-15), Status::Solved);
    assert_eq!(solver.out, [4.0 / 3.0, 4.0 / 3.0, 4.0 / 3.0, 10.0]);
}

#[test]
fn circles_are_named() {
    let groups = Groups::from_ids(&[0; 5]).unwrap();
    let edges = Edges { from: &[4, 0, 3, 1], to: &[0, 3, 1, 0], margin: Each::One(0.0) };
    let e = order_project(&groups, &[0.0; 5], edges, Norm::Free, None, Par::Serial).unwrap_err();
    let text = "'edges' must not go in a circle, got rows 0 -> 3 -> 1 -> 0; take one of its edges out";
    assert_eq!(e.to_string(), text);
}

#[test]
fn a_long_chain() {
    let n = 200_000;
    let x: Vec<f64> = (0..n).map(|i| -f64::from(i)).collect();
    let edges: Vec<(i64, i64)> = (1..i64::from(n)).map(|i| (i - 1, i)).collect();
    let (a, _) = project(&x, &edges, 0.0, Norm::Free, None);
    assert!(a.iter().all(|&v| v == -0.5 * f64::from(n - 1)));
}

proptest! {
    #[test]
    fn projections(
        x in prop::collection::vec(-2.0f64..2.0, 2..14),
        raw in prop::collection::vec((0usize..14, 0usize..14), 0..30),
        margin in prop::sample::select(vec![0.0, 0.1, 1.0]),
        turn in 0usize..14,
    ) {
        let n = x.len();
        let edges: Vec<(i64, i64)> = raw
            .iter()
            .map(|&(a, b)| (a % n, b % n))
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.min(b) as i64, a.max(b) as i64))
            .collect();
        let (a, s) = project(&x, &edges, margin, Norm::Free, None);
        prop_assert_eq!(s, Status::Solved);
        prop_assert!(in_order(&a, &edges, margin));
        let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
        prop_assert!((mean(&a) - mean(&x)).abs() < 1e-13);
        let (again, _) = project(&a, &edges, margin, Norm::Free, None);
        prop_assert!(a.iter().zip(&again).all(|(p, q)| (p - q).abs() < 1e-14));
        // Any other point in order lies on the far side.
        let other: Vec<f64> = (0..n).map(|i| x[(i + turn) % n] * 1.7 - 0.2).collect();
        let (b, _) = project(&other, &edges, margin, Norm::Free, None);
        let side: f64 = (0..n).map(|i| (x[i] - a[i]) * (b[i] - a[i])).sum();
        prop_assert!(side < 1e-12);
        // The length of P(t x) never falls with t.
        let length = |t: f64| {
            let tx: Vec<f64> = x.iter().map(|v| t * v).collect();
            project(&tx, &edges, margin, Norm::Free, None).0.iter().map(|v| v * v).sum::<f64>()
        };
        let lengths: Vec<f64> = [0.0, 0.1, 0.5, 1.0, 3.0, 10.0].map(length).to_vec();
        prop_assert!(lengths.windows(2).all(|w| w[0] <= w[1] + 1e-12));
        // Renumbered rows give the same bits.
        let to = |v: i64| (v as usize + turn) % n;
        let turned: Vec<(i64, i64)> = edges.iter().rev().map(|&(i, j)| (to(i) as i64, to(j) as i64)).collect();
        let mut y = vec![0.0; n];
        (0..n).for_each(|i| y[to(i as i64)] = x[i]);
        let (c, _) = project(&y, &turned, margin, Norm::Free, None);
        prop_assert!((0..n).all(|i| c[to(i as i64)].to_bits() == a[i].to_bits()));
    }
}
