use super::*;
use crate::par::Par;
use proptest::prelude::*;

const RULE: Rule<'_> = Rule {
    mask: None,
    gaps: Gaps::Carry,
    gap_reward: GapReward::Raise,
    bootstrap: Bootstrap::Zero,
    truncated: None,
};

fn scan(gamma: f64, lam: f64) -> Scan<'static> {
    Scan { gamma, lam: PerRow::One(lam), lam_returns: None, moments: false }
}

fn run(
    layout: &Layout,
    rewards: Rewards<'_, f64>,
    values: &[f64],
    rule: Rule<'_>,
    scan: Scan<'_>,
    par: Par,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut a, mut g) = (vec![7.0; values.len()], vec![7.0; values.len()]);
    gae(layout, rewards, values, rule, scan, Outputs { advantages: Some(&mut a), returns: &mut g }, par)?;
    Ok((a, g))
}

#[test]
fn truncated_rows_by_hand() {
    let one = Layout::packed(&[0, 3]).unwrap();
    let v = [0.3, 0.5, 0.4];
    let near = |got: &[f64], expected: [f64; 3]| got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
    let last = Rule { bootstrap: Bootstrap::Last, ..RULE };
    let zero = Rewards::Rows(&[0.0]);
    assert!(near(&run(&one, zero, &v, last, scan(1.0, 0.9), Par::Serial).unwrap().0, [0.11, -0.1, 0.0]));
    let one_reward = Rewards::Rows(&[1.0]);
    let (a, g) = run(&one, one_reward, &v, RULE, scan(1.0, 0.9), Par::Serial).unwrap();
    assert!(near(&a, [0.596, 0.44, 0.6]) && near(&g, [0.896, 0.94, 1.0]));
    assert!(near(&run(&one, zero, &v, RULE, scan(1.0, 0.9), Par::Serial).unwrap().0, [-0.214, -0.46, -0.4]));
}

#[test]
fn gaps_in_every_mode() {
    let one = Layout::packed(&[0, 4]).unwrap();
    let (r, v, mask) = ([0.0, 0.0, 0.0, 1.0], [0.5, 9.0, 0.25, 0.5], [1u8, 0, 1, 1]);
    let with = |gaps| {
        let rule = Rule { mask: Some(&mask), gaps, ..RULE };
        run(&one, Rewards::Tokens(&r), &v, rule, scan(0.5, 0.5), Par::Serial).unwrap().0
    };
    // delta: 0.5 at the end, 0 + 0.25 - 0.25 = 0 before it.
    assert_eq!(with(Gaps::Carry), [0.125 - 0.5 + 0.25 * 0.125, 0.0, 0.125, 0.5]);
    // The gap: delta = 0.5 * 0.25, so 0.125 + 0.25 * 0.125 there; then next value 0.
    assert_eq!(with(Gaps::State), [-0.5 + 0.25 * 0.15625, 0.0, 0.125, 0.5]);
    assert_eq!(with(Gaps::Ignore)[0], 4.5 - 0.5 + 0.25 * (0.125 - 9.0 + 0.25 * 0.125));
    let mut out = [0.0; 4];
    let rule = Rule { mask: Some(&mask), gaps: Gaps::Cut, ..RULE };
    discounted_returns(&one, Rewards::Tokens(&r), rule, scan(0.5, 1.0), &mut out, Par::Serial).unwrap();
    assert_eq!(out, [0.0, 0.0, 0.5, 1.0]);
}

#[test]
fn rewards_at_gaps() {
    let one = Layout::packed(&[0, 4]).unwrap();
    let (r, v, mask) = ([0.0, 2.0, 0.0, 1.0], [0.0; 4], [1u8, 0, 1, 0]);
    let with = |gap_reward| {
        let rule = Rule { mask: Some(&mask), gap_reward, ..RULE };
        run(&one, Rewards::Tokens(&r), &v, rule, scan(1.0, 1.0), Par::Serial).map(|x| x.0)
    };
    assert_eq!(with(GapReward::Previous).unwrap(), [3.0, 0.0, 1.0, 0.0]);
    assert_eq!(with(GapReward::Drop).unwrap(), [0.0; 4]);
    let message = with(GapReward::Raise).unwrap_err().to_string();
    assert!(message.starts_with("'rewards' has 2 at row 0, position 1, where the mask is 0;"), "{message}");
    let none = Rule { mask: Some(&[0u8; 4]), ..RULE };
    let message = run(&one, Rewards::Rows(&[1.0]), &v, none, scan(1.0, 1.0), Par::Serial).unwrap_err();
    assert!(message.to_string().starts_with("'rewards' has 1 for row 0, which has no trained token"));
}

#[test]
fn what_is_not_finite_is_named() {
    let two = Layout::padded(2, 2, None).unwrap();
    let r = Rewards::Tokens(&[0.0; 4]);
    let e = run(&two, r, &[0.0, 0.0, f64::NAN, 0.0], RULE, scan(0.0, 0.0), Par::Serial).unwrap_err();
    assert_eq!(e.to_string(), "'values' must be finite at trained tokens, got NaN at row 1, position 0");
}

#[test]
fn optimal_baseline_by_hand() {
    // Weights 1 - 2 * 0.5 + 0.25 = 0.25 a token, so running sums 0.25, 0.5, 0.75.
    let layout = Layout::packed(&[0, 3, 5, 6]).unwrap();
    let groups = crate::Groups::from_ids(&[0, 0, 1]).unwrap();
    let (logp, s2) = ([0.5f64.ln(); 6], [0.25; 6]);
    let energy = Energy { logprobs: &logp, sum_pi_squared: &s2, importance: None };
    let choices = Choices { by_trained: true, zero_tail: true, eps: 0.0, lone_keeps_return: true };
    let mut out = [9.0; 6];
    let r = Rewards::Rows(&[1.0, 0.0, 5.0]);
    optimal_token_baseline(&layout, &groups, r, energy, RULE, choices, &mut out, Par::Serial).unwrap();
    assert_eq!(out, [0.5, 0.5, 1.0, -0.5, -0.5, 5.0]);
    let equal = Rewards::Rows(&[0.7, 0.7, 5.0]);
    let plain = Choices { zero_tail: false, lone_keeps_return: false, ..choices };
    optimal_token_baseline(&layout, &groups, equal, energy, RULE, plain, &mut out, Par::Serial).unwrap();
    assert_eq!(out, [0.0; 6]);
    let bad = [0.25, 0.25, 0.25, 0.25, f64::NAN, 0.25];
    let energy = Energy { sum_pi_squared: &bad, ..energy };
    let e = optimal_token_baseline(&layout, &groups, r, energy, RULE, choices, &mut out, Par::Serial)
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "'sum_pi_squared' must be finite at trained tokens, got NaN at row 1, position 1"
    );
}

proptest! {
    #[test]
    fn rows_do_not_depend_on_each_other_nor_on_gaps(
        rows in prop::collection::vec(prop::collection::vec((-2.0f64..2.0, -2.0f64..2.0, 0usize..3), 0..40), 1..9),
        lam in 0.0f64..1.0,
    ) {
        let (mut r, mut v, mut offsets) = (vec![], vec![], vec![0i64]);
        let (mut rg, mut vg, mut mask, mut og) = (vec![], vec![], vec![], vec![0i64]);
        for row in &rows {
            for &(x, y, gaps) in row {
                r.push(x);
                v.push(y);
                rg.push(x);
                vg.push(y);
                mask.push(1u8);
                for _ in 0..gaps {
                    rg.push(0.0);
                    vg.push(99.0);
                    mask.push(0);
                }
            }
            offsets.push(r.len() as i64);
            og.push(rg.len() as i64);
        }
        let layout = Layout::packed(&offsets).unwrap();
        let all = run(&layout, Rewards::Tokens(&r), &v, RULE, scan(0.99, lam), Par::Threads).unwrap();
        let gapped = Rule { mask: Some(&mask), ..RULE };
        let inserted = run(&Layout::packed(&og).unwrap(), Rewards::Tokens(&rg), &vg, gapped, scan(0.99, lam), Par::Serial).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let at = layout.row(i);
            let alone = run(&Layout::packed(&[0, row.len() as i64]).unwrap(), Rewards::Tokens(&r[at.clone()]), &v[at.clone()], RULE, scan(0.99, lam), Par::Serial).unwrap();
            prop_assert_eq!(&all.0[at.clone()], &alone.0[..]);
            prop_assert_eq!(&all.1[at.clone()], &alone.1[..]);
            let (mut c, mut next) = (0.0, 0.0);
            for t in at.rev() {
                c = r[t] + 0.99 * next - v[t] + 0.99 * lam * c;
                next = v[t];
                prop_assert!((c - all.0[t]).abs() < 1e-9);
            }
        }
        let kept: Vec<f64> = inserted.0.iter().zip(&mask).filter(|p| *p.1 != 0).map(|p| *p.0).collect();
        prop_assert_eq!(kept, all.0);
    }

    #[test]
    fn vtrace_on_policy_is_td_lambda(row in prop::collection::vec((-2.0f64..2.0, -2.0f64..2.0), 1..30)) {
        let (r, v): (Vec<f64>, Vec<f64>) = row.into_iter().unzip();
        let one = Layout::packed(&[0, r.len() as i64]).unwrap();
        let (_, g) = run(&one, Rewards::Tokens(&r), &v, RULE, scan(0.9, 0.8), Par::Serial).unwrap();
        let (mut a, mut vs) = (vec![0.0; r.len()], vec![0.0; r.len()]);
        let clips = Clips { rho: 1.0, c: 1.0, pg_rho: 1.0 };
        vtrace(&one, Rewards::Tokens(&r), &v, &vec![0.0; r.len()], RULE, (0.9, PerRow::One(0.8)), clips, [&mut a, &mut vs], Par::Serial).unwrap();
        for (x, y) in g.iter().zip(&vs) {
            prop_assert!((x - y).abs() < 1e-9);
        }
    }
}
