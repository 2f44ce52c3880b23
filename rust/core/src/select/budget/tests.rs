//! Gains against the dynamic program, and inputs of every kind.

use proptest::prelude::*;

use crate::par::Par;
use crate::select::budget::cut::fill;
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
