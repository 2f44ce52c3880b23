use super::*;

const RULES: Rules = Rules {
    ddof: 1,
    eps: 1e-6,
    eps_place: EpsPlace::Add,
    singleton: Singleton::Zero,
    zero_spread: ZeroSpread::Zero,
    nan: NanPolicy::Raise,
};

fn run(x: &[f64], ids: &[i64], center: Center<'_>, scale: Scale<'_>, rules: Rules) -> Vec<f64> {
    let groups = Groups::from_ids(ids).unwrap();
    // What was there before must not matter.
    let (mut serial, mut threads) = (vec![9.0; x.len()], vec![-9.0; x.len()]);
    normalize(&groups, x, None, center, scale, rules, &mut serial, Par::Serial).unwrap();
    normalize(&groups, x, None, center, scale, rules, &mut threads, Par::Threads).unwrap();
    let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&serial), bits(&threads));
    serial
}

#[test]
fn grpo_by_hand() {
    let a = run(&[1.0, 0.0, 0.0, 1.0], &[5, 5, 5, 5], Center::Mean, Scale::Std, RULES);
    assert!((a[0] - 0.866_023_903_787_036_8).abs() < 1e-15, "{a:?}");
    assert_eq!(a[0], -a[1]);
}

#[test]
fn constant_groups_are_exactly_zero() {
    for c in [0.7, 0.1, 1000.1, 1e-300] {
        for n in 2..70 {
            let ids = vec![0; n];
            let a = run(&vec![c; n], &ids, Center::Mean, Scale::Std, RULES);
            assert!(a.iter().all(|&v| v == 0.0));
            let a = run(&vec![c; n], &ids, Center::LeaveOneOut, Scale::None, RULES);
            assert!(a.iter().all(|&v| v == 0.0));
        }
    }
}

#[test]
fn singletons() {
    let with = |singleton| Rules { singleton, ..RULES };
    let one = |rules, center, scale| run(&[-7.0], &[0], center, scale, rules)[0];
    assert_eq!(one(with(Singleton::Zero), Center::Mean, Scale::Std), 0.0);
    assert_eq!(one(with(Singleton::Raw), Center::Mean, Scale::Std), -7.0 / (1.0 + 1e-6));
    assert_eq!(one(with(Singleton::Raw), Center::LeaveOneOut, Scale::None), -7.0);
    assert_eq!(one(with(Singleton::Abs), Center::Mean, Scale::Std), -7.0 / (7.0 + 1e-6));
    assert!(one(with(Singleton::Nan), Center::Mean, Scale::Std).is_nan());
    let groups = Groups::from_ids(&[0]).unwrap();
    let rules = with(Singleton::Raise);
    let e = normalize(&groups, &[1.0], None, Center::Mean, Scale::Std, rules, &mut [0.0], Par::Serial)
        .unwrap_err();
    assert!(e.to_string().contains("one valid member"));
}

#[test]
fn leave_one_out_std_of_a_lone_success_is_zero() {
    let rules = Rules { zero_spread: ZeroSpread::Unscaled, ..RULES };
    let a = run(&[1.0, 0.0, 0.0, 0.0], &[0; 4], Center::LeaveOneOut, Scale::LeaveOneOutStd, rules);
    assert_eq!(a[0], 1.0);
    let expected = (0.0 - 1.0 / 3.0) / ((1.0f64 / 3.0).sqrt() + 1e-6);
    assert!((a[1] - expected).abs() < 1e-15);
}

#[test]
fn nan_policies() {
    let groups = Groups::from_ids(&[0, 0, 0, 1]).unwrap();
    let x = [1.0f32, f32::NAN, 3.0, 5.0];
    let go = |nan, x: &[f32]| {
        let mut out = vec![9.0; x.len()];
        normalize(&groups, x, None, Center::Mean, Scale::None, Rules { nan, ..RULES }, &mut out, Par::Serial)
            .map(|()| out)
    };
    assert!(matches!(go(NanPolicy::Raise, &x), Err(Error::NonFinite { index: 1, .. })));
    assert_eq!(go(NanPolicy::Omit, &x).unwrap(), [-1.0, 0.0, 1.0, 0.0]);
    let p = go(NanPolicy::Propagate, &x).unwrap();
    assert!(p[0].is_nan() && p[1].is_nan() && p[2].is_nan() && p[3] == 0.0);
    let inf = [1.0f32, f32::INFINITY, 3.0, 5.0];
    assert!(go(NanPolicy::Omit, &inf).is_err());
}
