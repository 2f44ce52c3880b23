//! Soft values: the log of a weighted mean of exponentials, by Newton's method where there are cycles.

use super::backup::{Cycle, Flow};
use super::linear::{Linear, Unsolved};
use crate::error::Result;

/// What the edges of a node are worth together.
pub(super) struct Soft {
    /// `log(sum_e p_e exp(beta q_e)) / beta` with `p_e` the shares of the weights.
    pub(super) value: f64,
    /// The same less `sum_e s_e q_e`, with `s_e` the shares of the terms of the sum: `-KL(s, p) / beta`.
    constant: f64,
}

/// The soft value of the edges of `u`, and to `share` each edge with its share `s_e`.
pub(super) fn value(
    flow: &Flow<'_>,
    beta: f64,
    u: u32,
    values: &[f64],
    mut share: impl FnMut(usize, f64),
) -> Soft {
    let edges = || flow.task.out(u).filter(|&e| flow.live(e));
    let (mut first, mut more, mut total, mut top) = (f64::NAN, 0.0, 0.0, f64::NEG_INFINITY);
    for e in edges() {
        let q = flow.q(e, values);
        first = if first.is_nan() { q } else { first };
        more += flow.weight(e) * (q - first);
        total += flow.weight(e);
        top = f64::max(top, beta.signum() * q);
    }
    // The log is that of numbers near 1 beside the mean, but they may be too large for a float; beside the top none is.
    let (mean, top) = (first + more / total, beta.signum() * top);
    let from = if beta * (top - mean) < 30.0 { mean } else { top };
    let x = |e: usize| beta * (flow.q(e, values) - from);
    let (mut sum, mut less) = (0.0, 0.0);
    for e in edges() {
        sum += flow.weight(e) * x(e).exp();
        less += flow.weight(e) * x(e).exp_m1();
    }
    let less = less / total;
    // Near equal values the sum is near 1 and the log near 0.
    let log = if less > -0.5 { less.ln_1p() } else { (sum / total).ln() };
    let mut divergence = 0.0;
    for e in edges() {
        // s = p exp(y), and s y summed is the divergence; less s - p, which sum to 0, no term is negative.
        let (p, y) = (flow.weight(e) / total, x(e) - log);
        let times = y.exp();
        divergence += p * (if times > 0.0 { y * times } else { 0.0 } - y.exp_m1());
        share(e, p * times);
    }
    Soft { value: from + log / beta, constant: -divergence / beta }
}

/// Soft values of a component with cycles. Each step solves the linear system of the shares at the values so far.
pub(super) fn solve(
    flow: &Flow<'_>,
    beta: f64,
    cycle: &Cycle<'_>,
    linear: &mut Linear,
    values: &mut [f64],
) -> Result<()> {
    /// Newton's method takes some ten; where rewards on a cycle leave no limit it would go on.
    const STEPS: usize = 200;
    linear.mean(flow, cycle, values)?;
    let zero = linear.zero;
    for _ in 0..flow.max_sweeps.min(STEPS) {
        linear.reset(cycle.nodes.len(), flow.gamma);
        for (i, &u) in cycle.nodes.iter().enumerate() {
            let mut constant = 0.0;
            let soft = value(flow, beta, u, values, |e, share| {
                let (v, going) = (flow.task.target[e], flow.gamma * share);
                let inner = cycle.inner(v);
                linear.add(i as u32, inner, going);
                constant += share * flow.reward(e);
                if inner.is_none() {
                    constant += going * (values[v as usize] - zero);
                }
            });
            linear.constant[i] = constant + soft.constant;
        }
        if linear.solve(flow.tol, flow.max_sweeps).is_err() {
            break;
        }
        let (mut step, mut scale) = (0.0f64, 0.0f64);
        for (&u, &new) in cycle.nodes.iter().zip(&linear.value) {
            let new = zero + new;
            step = step.max((new - values[u as usize]).abs());
            scale = scale.max(new.abs());
            values[u as usize] = new;
        }
        if step <= flow.tol * scale {
            return Ok(());
        }
        // Sharp values come from far by single edges, which Newton's steps take one by one.
        for &u in cycle.nodes.iter().chain(cycle.nodes.iter().rev()) {
            values[u as usize] = value(flow, beta, u, values, |_, _| {}).value;
        }
    }
    Err(flow.unsolved(Unsolved::Unsettled, cycle.nodes.len()))
}
