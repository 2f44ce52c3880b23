//! The recurrence of one token, and loops over runs of tokens of one row or of two.

use std::ops::Range;

use crate::real::Real;

/// What a kernel reads and writes.
pub(super) trait Form: Copy + Send + Sync {
    /// Rewards of tokens (else those of rows, which enter at single tokens).
    const REWARDS: bool;
    /// Values; without them the scan is that of discounted returns.
    const VALUES: bool;
    /// Writes advantages to the first output.
    const ADVANTAGES: bool;
    /// Writes returns to the second.
    const RETURNS: bool;
    /// Returns have a lambda of their own.
    const TWO: bool;
}

macro_rules! form {
    ($name:ident, $rewards:literal, $values:literal, $advantages:literal, $returns:literal, $two:literal) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;
        impl Form for $name {
            const REWARDS: bool = $rewards;
            const VALUES: bool = $values;
            const ADVANTAGES: bool = $advantages;
            const RETURNS: bool = $returns;
            const TWO: bool = $two;
        }
    };
}
form!(Gae, true, true, true, true, false);
form!(GaeOfRows, false, true, true, true, false);
form!(GaeTwo, true, true, true, true, true);
form!(GaeTwoOfRows, false, true, true, true, true);
form!(TdLambda, true, true, false, true, false);
form!(TdLambdaOfRows, false, true, false, true, false);
form!(Discounted, true, false, true, false, false);
form!(DiscountedOfRows, false, false, true, false, false);

/// `gamma`, and its products with the lambdas of advantages and of returns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coefficients {
    pub gamma: f64,
    pub decay: f64,
    pub decay_returns: f64,
}

/// What is carried from a token to the one before it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carry {
    pub advantage: f64,
    pub for_returns: f64,
    pub next_value: f64,
}

impl Carry {
    /// Takes in a token with reward `r` and value `v`.
    #[inline(always)]
    pub(super) fn step<F: Form>(&mut self, r: f64, v: f64, by: Coefficients) {
        let delta = if F::VALUES { r + by.gamma * self.next_value - v } else { r };
        self.advantage = delta + by.decay * self.advantage;
        if F::TWO {
            self.for_returns = delta + by.decay_returns * self.for_returns;
        }
        self.next_value = v;
    }

    #[inline(always)]
    fn returns<F: Form>(&self) -> f64 {
        self.next_value + if F::TWO { self.for_returns } else { self.advantage }
    }
}

/// Flat inputs, and the outputs of a piece of rows that starts at `base`.
pub(super) struct Streams<'a, T> {
    pub rewards: &'a [T],
    pub values: &'a [T],
    pub base: usize,
    pub advantages: &'a mut [T],
    pub returns: &'a mut [T],
}

fn part<T>(x: &[T], at: Range<usize>, there: bool) -> &[T] {
    if there { &x[at] } else { &[] }
}

impl<T: Real> Streams<'_, T> {
    /// One token with `extra` reward.
    pub(super) fn one<F: Form>(&mut self, at: usize, extra: f64, carry: &mut Carry, by: Coefficients) {
        // Adding nothing must not turn -0 into 0.
        let own = if F::REWARDS { self.rewards[at].wide() } else { 0.0 };
        let r = if F::REWARDS && extra == 0.0 { own } else { own + extra };
        let v = if F::VALUES { self.values[at].wide() } else { 0.0 };
        carry.step::<F>(r, v, by);
        if F::ADVANTAGES {
            self.advantages[at - self.base] = T::narrow(carry.advantage);
        }
        if F::RETURNS {
            self.returns[at - self.base] = T::narrow(carry.returns::<F>());
        }
    }

    /// The tokens of a run, last to first.
    pub(super) fn run<F: Form>(&mut self, at: Range<usize>, carry: &mut Carry, by: Coefficients) {
        let out = at.start - self.base..at.end - self.base;
        let n = at.len();
        let r = part(self.rewards, at.clone(), F::REWARDS);
        let v = part(self.values, at, F::VALUES);
        let a = if F::ADVANTAGES { &mut self.advantages[out.clone()] } else { &mut [] };
        let g = if F::RETURNS { &mut self.returns[out] } else { &mut [] };
        let mut c = *carry;
        for t in (0..n).rev() {
            c.step::<F>(
                if F::REWARDS { r[t].wide() } else { 0.0 },
                if F::VALUES { v[t].wide() } else { 0.0 },
                by,
            );
            if F::ADVANTAGES {
                a[t] = T::narrow(c.advantage);
            }
            if F::RETURNS {
                g[t] = T::narrow(c.returns::<F>());
            }
        }
        *carry = c;
    }

    /// Two runs of the same length in different rows; `at.0` lies before `at.1`.
    pub(super) fn run_two<F: Form>(
        &mut self,
        at: (Range<usize>, Range<usize>),
        carry: (&mut Carry, &mut Carry),
        by: (Coefficients, Coefficients),
    ) {
        let n = at.0.len().min(at.1.len());
        let of = |x: &Range<usize>| x.end - n..x.end;
        let (p, q) = (of(&at.0), of(&at.1));
        let (po, qo) = (p.start - self.base..p.end - self.base, q.start - self.base..q.end - self.base);
        let (r0, r1) = (part(self.rewards, p.clone(), F::REWARDS), part(self.rewards, q.clone(), F::REWARDS));
        let (v0, v1) = (part(self.values, p, F::VALUES), part(self.values, q, F::VALUES));
        let (a0, a1) = halves(self.advantages, po.clone(), qo.clone(), F::ADVANTAGES);
        let (g0, g1) = halves(self.returns, po, qo, F::RETURNS);
        let (mut c, mut d) = (*carry.0, *carry.1);
        for t in (0..n).rev() {
            let read = |r: &[T], v: &[T]| {
                (if F::REWARDS { r[t].wide() } else { 0.0 }, if F::VALUES { v[t].wide() } else { 0.0 })
            };
            let ((rc, vc), (rd, vd)) = (read(r0, v0), read(r1, v1));
            c.step::<F>(rc, vc, by.0);
            d.step::<F>(rd, vd, by.1);
            if F::ADVANTAGES {
                a0[t] = T::narrow(c.advantage);
                a1[t] = T::narrow(d.advantage);
            }
            if F::RETURNS {
                g0[t] = T::narrow(c.returns::<F>());
                g1[t] = T::narrow(d.returns::<F>());
            }
        }
        (*carry.0, *carry.1) = (c, d);
    }
}

fn halves<T>(x: &mut [T], p: Range<usize>, q: Range<usize>, there: bool) -> (&mut [T], &mut [T]) {
    if !there {
        return (&mut [], &mut []);
    }
    let (left, right) = x.split_at_mut(q.start);
    (&mut left[p], &mut right[..q.len()])
}
