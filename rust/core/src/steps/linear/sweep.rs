//! What is left where it is too large for a matrix: Gauss-Seidel until a bound of the error is small.

use super::{Linear, Unsolved};

/// The states that are left: `V_u = constant_u + sum_j share_uj V_j`, what is lacking to 1 leaves.
struct Core {
    bounds: Vec<usize>,
    to: Vec<u32>,
    share: Vec<f64>,
    constant: Vec<f64>,
    leave: Vec<f64>,
}

/// Values, and the expected number of steps until a walk leaves, both as far as they are known.
struct State {
    value: f64,
    steps: f64,
}

impl Core {
    /// What the others make of `u`.
    fn row(&self, u: usize, state: &[State]) -> (f64, f64) {
        let own = self.bounds[u]..self.bounds[u + 1];
        self.to[own.clone()].iter().zip(&self.share[own]).fold((self.constant[u], 1.0), |(v, t), (&j, a)| {
            let other = &state[j as usize];
            (v + a * other.value, t + a * other.steps)
        })
    }
}

impl Linear {
    /// Solves for the states of `core`, forwards and backwards in turn.
    ///
    /// If a step changes no value by more than `c`, and expected numbers of steps by less than their 1, that is to
    /// `1 - s` at most, `c / s` times the largest of these numbers bounds the error. It is slow to know where a walk
    /// ends if it takes long; most of that is the same for all states, and a shift of all removes it.
    pub(super) fn sweep(
        &mut self,
        core: &[u32],
        tol: f64,
        max_sweeps: usize,
    ) -> std::result::Result<(), Unsolved> {
        /// Shifts are given up where as many sweeps did not halve the change.
        const PATIENCE: usize = 32;
        let system = self.core(core);
        let n = core.len();
        let total: f64 = system.leave.iter().sum();
        let (value, steps) = (system.constant.iter().sum::<f64>() / total, n as f64 / total);
        let mut state: Vec<State> = (0..n).map(|_| State { value, steps }).collect();
        let (mut shifts, mut before) = (true, f64::INFINITY);
        for sweep in 0..max_sweeps {
            for i in 0..n {
                let u = if sweep % 2 == 0 { i } else { n - 1 - i };
                let (value, steps) = system.row(u, &state);
                state[u] = State { value, steps };
            }
            let (mut change, mut slack, mut scale, mut longest) = (0.0f64, 1.0f64, 0.0f64, 0.0f64);
            let (mut value, mut steps) = (0.0, 0.0);
            for (u, now) in state.iter().enumerate() {
                let (v, t) = system.row(u, &state);
                (value, steps) = (value + (v - now.value), steps + (t - now.steps));
                (change, slack) = (change.max((v - now.value).abs()), slack.min(1.0 - (t - now.steps)));
                (scale, longest) = (scale.max(now.value.abs()), longest.max(now.steps));
            }
            if slack > 0.0 && change * longest <= tol * scale * slack {
                for (&u, state) in core.iter().zip(&state) {
                    self.value[u as usize] = state.value;
                }
                return Ok(());
            }
            if sweep % PATIENCE == PATIENCE - 1 {
                shifts = shifts && change < before / 2.0;
                before = change;
            }
            if shifts && total > 0.0 {
                for state in &mut state {
                    state.value += value / total;
                    state.steps += steps / total;
                }
            }
        }
        Err(Unsolved::Unsettled)
    }

    fn core(&mut self, core: &[u32]) -> Core {
        for &u in core {
            self.tidy(u);
        }
        let mut number = vec![0u32; self.value.len()];
        core.iter().enumerate().for_each(|(i, &u)| number[u as usize] = i as u32);
        let (mut bounds, mut to, mut share) = (vec![0], Vec::new(), Vec::new());
        for &u in core {
            let at = u as usize;
            let divisor = self.leave[at] + self.out[at].iter().map(|x| x.1).sum::<f64>();
            self.divisor[at] = divisor;
            to.extend(self.out[at].iter().map(|x| number[x.0 as usize]));
            share.extend(self.out[at].iter().map(|x| x.1 / divisor));
            bounds.push(to.len());
        }
        let by = |x: &[f64]| core.iter().map(|&u| x[u as usize] / self.divisor[u as usize]).collect();
        Core { bounds, to, share, constant: by(&self.constant), leave: by(&self.leave) }
    }
}
