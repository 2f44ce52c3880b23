//! Bellman backups: one pass over the components of a graph, those that others lead to first.

use super::best::{self, Best};
use super::graph::{StepGraph, Task, by_task};
use super::linear::{Linear, Unsolved};
use super::scc::Components;
use super::soft;
use crate::error::{Error, Result, check_len};
use crate::par::Par;

/// What a node takes of its edges, each of which is worth `q = r + gamma V(target)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backup {
    /// `sum_e w_e q_e / sum_e w_e`.
    Mean,
    /// `max_e q_e`: the best that a walk to a sink can have.
    Max,
    /// `log(sum_e w_e exp(beta q_e) / sum_e w_e) / beta`.
    LogSumExp {
        /// Inverse temperature, not 0.
        beta: f64,
    },
}

/// What a backup goes by.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Of each node; NaN where it is to be computed.
    pub sinks: &'a [f64],
    /// Of each edge.
    pub rewards: Option<&'a [f64]>,
    /// Of each edge, not negative; an edge of weight 0 is none. [`Backup::Max`] does not look at them.
    pub weights: Option<&'a [f64]>,
    /// Discount of a step, 0 to 1.
    pub gamma: f64,
    /// Value of nodes from which no sink can be reached.
    pub unreachable: f64,
    /// Where something has to be iterated: until values are this near, as a share of the largest.
    pub tol: f64,
    /// At most this often.
    pub max_sweeps: usize,
}

/// Edges of one task, and what they are worth.
pub(super) struct Flow<'a> {
    pub(super) task: &'a Task,
    pub(super) how: Backup,
    pub(super) gamma: f64,
    pub(super) rewards: Option<&'a [f64]>,
    weights: Option<&'a [f64]>,
    pub(super) tol: f64,
    pub(super) max_sweeps: usize,
}

impl Flow<'_> {
    pub(super) fn weight(&self, e: usize) -> f64 {
        self.weights.map_or(1.0, |w| w[e])
    }

    pub(super) fn live(&self, e: usize) -> bool {
        self.weight(e) > 0.0
    }

    pub(super) fn reward(&self, e: usize) -> f64 {
        self.rewards.map_or(0.0, |r| r[e])
    }

    pub(super) fn q(&self, e: usize, values: &[f64]) -> f64 {
        let after = values[self.task.target[e] as usize];
        // Minus infinity is no way to go, whatever the discount.
        self.reward(e) + if after.is_infinite() { after } else { self.gamma * after }
    }

    /// What a node has when all nodes that its edges lead to have theirs. Equal edges give their value to the last bit.
    fn direct(&self, u: u32, values: &[f64]) -> f64 {
        match self.how {
            Backup::Max => self.task.out(u).map(|e| self.q(e, values)).fold(f64::NEG_INFINITY, f64::max),
            Backup::Mean => {
                let (mut first, mut sum, mut total) = (f64::NAN, 0.0, 0.0);
                for e in self.task.out(u).filter(|&e| self.live(e)) {
                    let q = self.q(e, values);
                    first = if first.is_nan() { q } else { first };
                    sum += self.weight(e) * (q - first);
                    total += self.weight(e);
                }
                let mean = first + sum / total;
                if mean.is_finite() {
                    return mean;
                }
                // Differences of values may be too large where values are not.
                let edges = self.task.out(u).filter(|&e| self.live(e));
                edges.map(|e| self.weight(e) / total * self.q(e, values)).sum()
            }
            Backup::LogSumExp { beta } => soft::value(self, beta, u, values, |_, _| {}).value,
        }
    }

    /// The error for some states in cycles.
    pub(super) fn unsolved(&self, why: Unsolved, states: usize) -> Error {
        let many = if states == 1 { "1 state".into() } else { format!("{states} states") };
        let (arg, expected, got) = match why {
            Unsolved::Unsettled => (
                "max_sweeps",
                format!(
                    "larger (or 'tol' looser, or 'gamma' smaller): the values of {many} in cycles have not settled"
                ),
                self.max_sweeps.to_string(),
            ),
            Unsolved::Locked(share) => (
                "weights",
                format!("less unequal: {many} in cycles are left with a share too small for a float"),
                share.to_string(),
            ),
        };
        Error::Range { arg, expected, got }
    }
}

/// One component with cycles: its nodes, numbered by `place`.
pub(super) struct Cycle<'a> {
    pub(super) nodes: &'a [u32],
    of: &'a [u32],
    component: u32,
    place: &'a [u32],
}

impl Cycle<'_> {
    /// Number of a node in the component, None if it is outside.
    pub(super) fn inner(&self, v: u32) -> Option<u32> {
        let v = v as usize;
        (self.of.get(v) == Some(&self.component)).then(|| self.place[v])
    }
}

#[derive(Default)]
struct Memory {
    sinks: Vec<f64>,
    reached: Vec<bool>,
    components: Components,
    place: Vec<u32>,
    linear: Linear,
    best: Best,
}

/// `V(u) = backup over the edges of u`, and sinks as they are, to `out`, one value a node.
///
/// Exact up to rounding, but for cores of more than 2048 states that are densely tied by cycles (mean), which are iterated
/// to `tol`.
///
/// # Errors
/// [`Error::Length`] if an array has the wrong length; [`Error::Range`] if values have not settled;
/// [`Error::Structure`] if rewards on cycles make a maximum infinite.
pub fn backup(graph: &StepGraph<'_>, how: Backup, by: &Values<'_>, out: &mut [f64], par: Par) -> Result<()> {
    check_len("sinks", by.sinks.len(), graph.n_nodes(), "graph.n_nodes")?;
    if !(0.0..=1.0).contains(&by.gamma) {
        return Err(Error::Range {
            arg: "gamma",
            expected: "between 0 and 1".into(),
            got: by.gamma.to_string(),
        });
    }
    for (arg, x) in [("edge_rewards", by.rewards), ("weights", by.weights)] {
        x.map_or(Ok(()), |x| check_len(arg, x.len(), graph.n_edges(), "graph.n_edges"))?;
    }
    by_task(graph, out, par, |m: &mut Memory, task, values| {
        let flow = Flow {
            task,
            how,
            gamma: by.gamma,
            rewards: by.rewards.map(|r| &r[task.edges.clone()]),
            weights: if how == Backup::Max { None } else { by.weights.map(|w| &w[task.edges.clone()]) },
            tol: by.tol,
            max_sweeps: by.max_sweeps,
        };
        task.gather(by.sinks, &mut m.sinks);
        m.reached.clear();
        for (value, &sink) in values.iter_mut().zip(&m.sinks) {
            m.reached.push(!sink.is_nan());
            *value = if sink.is_nan() { by.unreachable } else { sink };
        }
        m.place.resize(task.n_states(), 0);
        let graph = (&task.offsets[..], &task.target[..]);
        m.components.find(graph, |u| m.sinks[u as usize].is_nan(), |e| flow.live(e));
        for c in 0..m.components.len() {
            one_component(&flow, m, c, values)?;
        }
        Ok(())
    })
}

fn one_component(flow: &Flow<'_>, m: &mut Memory, component: usize, values: &mut [f64]) -> Result<()> {
    let nodes = m.components.nodes(component);
    let target = &flow.task.target;
    let edges = |u: u32| flow.task.out(u).filter(|&e| flow.live(e));
    // Nodes of this component are not marked yet.
    if !nodes.iter().any(|&u| edges(u).any(|e| m.reached[target[e] as usize])) {
        return Ok(());
    }
    for (i, &u) in nodes.iter().enumerate() {
        m.reached[u as usize] = true;
        m.place[u as usize] = i as u32;
    }
    if let &[u] = nodes
        && !edges(u).any(|e| target[e] == u)
    {
        values[u as usize] = flow.direct(u, values);
        return Ok(());
    }
    let cycle = Cycle { nodes, of: &m.components.of, component: component as u32, place: &m.place };
    match flow.how {
        Backup::Max => best::solve(flow, &cycle, &mut m.best, values),
        Backup::Mean => m.linear.mean(flow, &cycle, values),
        Backup::LogSumExp { beta } => soft::solve(flow, beta, &cycle, &mut m.linear, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Task 0: states 0 <-> 1, 1 -> end 3, 0 -> end 3; task 1: state 2 -> 2 and end 4.
    const OFFSETS: [i64; 6] = [0, 2, 4, 6, 6, 6];
    const TARGET: [i64; 6] = [1, 3, 0, 3, 2, 4];

    fn run(how: Backup, gamma: f64, rewards: Option<&[f64]>, par: Par) -> Result<Vec<f64>> {
        let graph = StepGraph::new(&OFFSETS, &TARGET, &[0, 2, 3], &[3, 4, 5])?;
        let nan = f64::NAN;
        let sinks = &[nan, nan, nan, 1.0, -2.0];
        let by =
            Values { sinks, rewards, weights: None, gamma, unreachable: 0.0, tol: 1e-10, max_sweeps: 1000 };
        let mut out = vec![0.0; 5];
        backup(&graph, how, &by, &mut out, par)?;
        Ok(out)
    }

    #[test]
    fn cycles_are_solved() {
        for par in [Par::Serial, Par::Threads] {
            assert_eq!(run(Backup::Mean, 1.0, None, par).unwrap(), [1.0, 1.0, -2.0, 1.0, -2.0]);
            let mean = run(Backup::Mean, 0.5, None, par).unwrap();
            // V = (V + 1) / 4 and V = (V - 2) / 4.
            assert!((mean[0] - 1.0 / 3.0).abs() < 1e-15 && (mean[2] + 2.0 / 3.0).abs() < 1e-15);
            assert_eq!(run(Backup::Max, 0.5, None, par).unwrap(), [0.5, 0.5, 0.0, 1.0, -2.0]);
            assert_eq!(run(Backup::Max, 1.0, None, par).unwrap(), [1.0, 1.0, -2.0, 1.0, -2.0]);
            let gains = [1.0, 0.0, 1.0, 0.0, -1.0, 0.0];
            // Round and round: V = 1 + V / 2; staying costs 1 a step, leaving 2 / 2.
            assert_eq!(run(Backup::Max, 0.5, Some(&gains), par).unwrap(), [2.0, 2.0, -1.0, 1.0, -2.0]);
            assert!(run(Backup::Max, 1.0, Some(&gains), par).is_err());
            let soft = run(Backup::LogSumExp { beta: 2.0 }, 1.0, None, par).unwrap();
            assert_eq!(soft, [1.0, 1.0, -2.0, 1.0, -2.0]);
        }
    }

    #[test]
    fn what_is_no_graph_is_an_error() {
        let wrong: [[&[i64]; 4]; 7] = [
            [&OFFSETS, &TARGET, &[0, 2, 3], &[3, 5]],
            [&OFFSETS, &TARGET, &[1, 2, 3], &[3, 4, 5]],
            [&OFFSETS, &TARGET, &[], &[]],
            [&OFFSETS[1..], &TARGET, &[0, 2, 3], &[3, 4, 5]],
            [&OFFSETS, &TARGET[1..], &[0, 2, 3], &[3, 4, 5]],
            // Across tasks, and from an end.
            [&OFFSETS, &[1, 4, 0, 3, 2, 4], &[0, 2, 3], &[3, 4, 5]],
            [&[0, 2, 4, 5, 6, 6], &TARGET, &[0, 2, 3], &[3, 4, 5]],
        ];
        for [offsets, target, states, ends] in wrong {
            assert!(StepGraph::new(offsets, target, states, ends).is_err(), "{offsets:?} {target:?}");
        }
        assert!(run(Backup::Max, 1.5, None, Par::Serial).is_err());
        assert!(run(Backup::Max, 1.0, Some(&[0.0]), Par::Serial).is_err());
    }
}
