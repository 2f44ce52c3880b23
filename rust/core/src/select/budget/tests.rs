//! Gains against the dynamic program, and inputs of every kind.

use proptest::prelude::*;

use crate::par::Par;
use crate::select::budget::cut::fill;
use crate::select::budget::narrow::narrow;
use crate::select::budget::program::{program, solve};
use crate::select::budget::table::rises;
use crate::select::budget::{Limits, Method, Spare, allocate, knapsack};

fn value(n: i64, p: f64) -> f64 {
    (1.0 - p.powf(n as f64) - (1.0 - p).powf(n as f64)) * p * (1.0 - p) * (1.0 - p)
}

proptest! {
    #[test]
    fn gains_and_the_program_agree(
        rates in proptest::collection::vec(0_u32..=20, 1..6), width in 1_i64..9, spare in 0_i64..40
    ) {
        let rates: Vec<f64> = rates.iter().map(|&k| f64::from(k) / 20.0).collect();
        let n = rates.len();
        let (low, high, place) = (vec![2; n], vec![2 + width; n], (0..n as i64).collect::<Vec<_>>());
        let budget = 2 * n as i64 + spare.min(width * n as i64);
        let limits = Limits { low: &low, high: &high, place: &place };
        let counts = knapsack(&rates, limits, budget, Spare::Even).unwrap();
        prop_assert_eq!(counts.iter().sum::<i64>(), budget);
        let table: Vec<f64> = rates
            .iter()
            .flat_map(|&p| (0..=2 + width).map(move |k| if k < 2 { f64::NAN } else { value(k, p) }))
            .collect();
        let valid = vec![1; n];
        let (other, program) = allocate(
            &table, 3 + width as usize, &low, &place, &valid, budget, Method::Program, Par::Serial,
        ).unwrap();
        prop_assert!(program);
        let worth = |c: &[i64]| c.iter().zip(&rates).map(|(&k, &p)| value(k, p)).sum::<f64>();
        prop_assert!((worth(&counts) - worth(&other)).abs() < 1e-13);
    }

    #[test]
    fn what_is_left_out_is_never_best(
        rows in proptest::collection::vec((0..6_u32, proptest::collection::vec(-4_i32..5, 1..9)), 1..7),
        bend in prop_oneof![Just(0.0), Just(1e-16), Just(1e-3)], scale in prop_oneof![Just(0.1), Just(1e-300), Just(1e298)],
        share in 0.0_f64..1.0,
    ) {
        // Square roots, steps and whatever comes, some numbers not allowed.
        let rows: Vec<Vec<f64>> = rows
            .iter()
            .map(|(kind, numbers)| {
                let of = |(k, &x): (usize, &i32)| match kind {
                    0 => f64::from(x),
                    1 if k > 0 && k + 1 < numbers.len() && x > 2 => f64::NAN,
                    2 if k % 2 == 1 && k + 1 < numbers.len() => f64::NEG_INFINITY,
                    3 => f64::from(k as u32 / 3),
                    _ => (k as f64).sqrt() + bend * f64::from(x),
                };
                numbers.iter().enumerate().map(|cell| scale * of(cell)).collect()
            })
            .collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let most: usize = rows.iter().map(|row| row.len() - 1).sum();
        let left = (share * most as f64).round() as usize;
        match (program(&rows, left, Par::Serial), solve(&rows, left, Par::Serial)) {
            (Ok(some), Ok(all)) => prop_assert_eq!(some, all),
            (some, all) => prop_assert!(some.is_err() && all.is_err()),
        }
    }

    #[test]
    fn nothing_panics(
        values in proptest::collection::vec(proptest::num::f64::ANY, 0..24), width in 0_usize..5,
        low in proptest::collection::vec(any::<i64>(), 0..6), budget in any::<i64>(), method in 0..3,
    ) {
        let n = low.len();
        let place = vec![0; n];
        let method = [Method::Auto, Method::Greedy, Method::Program][method as usize];
        for lows in [low.clone(), vec![1; n]] {
            for budget in [budget, budget.rem_euclid(20)] {
                let _ = allocate(&values, width, &lows, &place, &vec![1; n], budget, method, Par::Serial);
                let limits = Limits { low: &lows, high: &low, place: &place };
                let _ = knapsack(&values, limits, budget, Spare::Unsolved);
            }
        }
    }
}

#[test]
fn little_is_left_of_rows_that_are_nearly_concave() {
    let values = |i: usize| (0..65).map(move |n| value(n, 0.05 + 0.9 * i as f64 / 63.0)).collect();
    let table: Vec<Vec<f64>> = (0..64).map(values).collect();
    let rows: Vec<&[f64]> = table.iter().map(|row| &row[2..]).collect();
    let left: usize = narrow(&rows, 640).iter().map(|range| range.len() - 1).sum();
    assert!(left < 16, "{left}");
    // Nothing of rows that are worth something full or not at all, and nothing is known where the last is half full.
    let steps: Vec<&[f64]> = vec![&[0.0, f64::NAN, 1.0]; 3];
    assert_eq!(narrow(&steps, 4), [0..3, 0..3, 0..3]);
    assert_eq!(narrow(&steps, 3), [0..3, 0..3, 0..3]);
}

#[test]
fn a_bend_is_exact() {
    assert!(!rises(0.0, 0.5, 1.0));
    assert!(rises(0.0, 0.1 + 0.2, 0.6 + 2e-16));
    assert!(!rises(0.1, 0.2, 0.3));
    assert!(rises(0.1, 0.2, 0.1 + 0.2));
    assert!(rises(-1.0, 0.0, 1.0 + f64::EPSILON));
    assert!(!rises(1e300, 1e300, 1e300));
}

#[test]
fn rollouts_fill_from_below() {
    let mut counts = [5, 1, 3];
    assert_eq!(fill(&mut counts, &[9, 1, 9], &[0, 1, 2], 4), 4);
    assert_eq!(counts, [6, 2, 5]);
    assert_eq!(fill(&mut counts, &[1, 0, 0], &[0, 1, 2], 4), 1);
}

#[test]
fn rates_whose_gains_hardly_fall() {
    for (p, n) in [(1e-18, 3), (1e-12, 3), (1e-160, 3), (1e-9, 50), (1e-5, 3)] {
        let (rates, low, high) = (vec![p; n], vec![1; n], vec![1 << 40; n]);
        let place: Vec<i64> = (0..n as i64).rev().collect();
        let budget = 20_000 * n as i64 + 2;
        let limits = Limits { low: &low, high: &high, place: &place };
        let counts = knapsack(&rates, limits, budget, Spare::Leave).unwrap();
        let mut expected = vec![20_000; n];
        expected[n - 2..].fill(20_001);
        assert_eq!(counts, expected);
    }
}
