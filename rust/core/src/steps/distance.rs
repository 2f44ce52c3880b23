//! Shortest distances from or to a set of nodes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::{StepGraph, by_task};
use crate::error::{Error, Result, check_len};
use crate::par::Par;

#[derive(Default)]
struct Memory {
    sources: Vec<bool>,
    queue: Vec<u32>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

/// The distance from each node to the nearest of `sources` (one mark a node) along edges, to `out`; with `reverse` false
/// the distance from the sources to the node. Costs are one an edge, 1 without; `unreachable` where there is no way.
///
/// # Errors
/// [`Error::Length`] if an array has the wrong length, [`Error::Range`] for a negative cost or NaN.
pub fn distance(
    graph: &StepGraph<'_>,
    sources: &[bool],
    costs: Option<&[f64]>,
    reverse: bool,
    unreachable: f64,
    out: &mut [f64],
    par: Par,
) -> Result<()> {
    check_len("sources", sources.len(), graph.n_nodes(), "graph.n_nodes")?;
    if let Some(costs) = costs {
        check_len("costs", costs.len(), graph.n_edges(), "graph.n_edges")?;
        if let Some(bad) = costs.iter().find(|c| c.is_nan() || **c < 0.0) {
            let expected = "finite and not negative".into();
            return Err(Error::Range { arg: "costs", expected, got: bad.to_string() });
        }
    }
    by_task(graph, out, par, |m: &mut Memory, task, values| {
        task.gather(sources, &mut m.sources);
        let (offsets, edge, other) = if reverse {
            task.reversed()
        } else {
            let mut offsets = task.offsets.clone();
            offsets.resize(task.n_nodes() + 1, task.target.len() as u32);
            (offsets, (0..task.target.len() as u32).collect(), task.target.clone())
        };
        let near = Near { offsets: &offsets, other: &other };
        for (value, &source) in values.iter_mut().zip(&m.sources) {
            *value = if source { 0.0 } else { f64::INFINITY };
        }
        match costs {
            None => near.steps(m, values),
            Some(costs) => near.costs(m, |k| costs[task.edges.start + edge[k] as usize], values),
        }
        for value in values.iter_mut().filter(|x| x.is_infinite()) {
            *value = unreachable;
        }
        Ok(())
    })
}

/// From each node its edges, and the nodes that they lead to.
struct Near<'a> {
    offsets: &'a [u32],
    other: &'a [u32],
}

impl Near<'_> {
    fn edges(&self, v: u32) -> std::ops::Range<usize> {
        self.offsets[v as usize] as usize..self.offsets[v as usize + 1] as usize
    }

    /// Breadth first.
    fn steps(&self, m: &mut Memory, values: &mut [f64]) {
        m.queue.clear();
        m.queue.extend((0..values.len() as u32).filter(|&v| m.sources[v as usize]));
        let mut at = 0;
        while let Some(&v) = m.queue.get(at) {
            at += 1;
            for &u in &self.other[self.edges(v)] {
                if values[u as usize] == f64::INFINITY {
                    values[u as usize] = values[v as usize] + 1.0;
                    m.queue.push(u);
                }
            }
        }
    }

    /// Nearest first (Dijkstra). Bits of numbers that are not negative sort as the numbers do.
    fn costs(&self, m: &mut Memory, cost: impl Fn(usize) -> f64, values: &mut [f64]) {
        m.heap.clear();
        m.heap.extend((0..values.len() as u32).filter(|&v| m.sources[v as usize]).map(|v| Reverse((0, v))));
        while let Some(Reverse((bits, v))) = m.heap.pop() {
            if bits != values[v as usize].to_bits() {
                continue;
            }
            for k in self.edges(v) {
                // Costs may be -0.0.
                let (u, far) = (self.other[k], f64::from_bits(bits) + cost(k) + 0.0);
                if far < values[u as usize] {
                    values[u as usize] = far;
                    m.heap.push(Reverse((far.to_bits(), u)));
                }
            }
        }
    }
}
