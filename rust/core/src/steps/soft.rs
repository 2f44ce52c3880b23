//! Soft values: the log of a weighted mean of exponentials, by Newton's method where there are cycles.

use super::backup::{Cycle, Flow};
use super::linear::Linear;
use crate::error::Result;

/// `log(sum_e w_e exp(beta q_e) / sum_e w_e) / beta` over the edges of `u`, and to `share` each edge with its share
/// `w_e exp(beta q_e)` of the sum.
pub(super) fn value(
    flow: &Flow<'_>,
    beta: f64,
    u: u32,
    values: &[f64],
    mut share: impl FnMut(usize, f64),
) -> f64 {
    let edges = || flow.task.out(u).filter(|&e| flow.live(e));
    let sign = beta.signum();
    let top = edges().map(|e| sign * flow.q(e, values)).fold(f64::NEG_INFINITY, f64::max) * sign;
    if top.is_infinite() {
        return top;
    }
    let (mut sum, mut less, mut total) = (0.0, 0.0, 0.0);
    for e in edges() {
        let (x, w) = (beta * (flow.q(e, values) - top), flow.weight(e));
        sum += w * x.exp();
        less += w * x.exp_m1();
        total += w;
    }
    for e in edges() {
        share(e, flow.weight(e) * (beta * (flow.q(e, values) - top)).exp() / sum);
    }
    let less = less / total;
    // Near equal values the sum is near 1 and the log near 0.
    top + if less > -0.5 { less.ln_1p() } else { (sum / total).ln() } / beta
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
    for _ in 0..flow.max_sweeps.min(STEPS) {
        linear.reset(cycle.nodes.len(), flow.gamma);
        let mut scale = 0.0f64;
        for (i, &u) in cycle.nodes.iter().enumerate() {
            let new = value(flow, beta, u, values, |e, share| {
                linear.add(i as u32, cycle.inner(flow.task.target[e]), flow.gamma * share);
            });
            linear.constant[i] = new - values[u as usize];
            scale = scale.max(new.abs());
        }
        let solved = linear.solve(flow.tol, flow.max_sweeps);
        let step =
            linear.value.iter().fold(0.0f64, |a, x| if x.is_nan() { f64::NAN } else { a.max(x.abs()) });
        if !solved || !step.is_finite() {
            break;
        }
        for (&u, step) in cycle.nodes.iter().zip(&linear.value) {
            values[u as usize] += step;
        }
        if step <= flow.tol * scale {
            return Ok(());
        }
    }
    Err(flow.unsettled(cycle.nodes.len()))
}
