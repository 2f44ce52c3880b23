//! A step graph as arrays, and the loop over its tasks.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result, check_len};
use crate::par::{Par, balanced};

/// Nodes are the states of each task, then the ends of each task; only states have edges, and those stay in the task.
#[derive(Debug, Clone, Copy)]
pub struct StepGraph<'a> {
    /// Edges of node `u` are `offsets[u]..offsets[u + 1]`.
    offsets: &'a [i64],
    /// Node that each edge leads to.
    target: &'a [i64],
    /// States of task `t` are `states[t]..states[t + 1]`.
    states: &'a [i64],
    /// Ends of task `t` are `ends[t]..ends[t + 1]`.
    ends: &'a [i64],
}

impl<'a> StepGraph<'a> {
    /// Checks the arrays.
    ///
    /// # Errors
    /// [`Error::Structure`] or [`Error::Length`] if they are no such graph, [`Error::TooLarge`] past 2**32 - 2 nodes or
    /// edges.
    pub fn new(offsets: &'a [i64], target: &'a [i64], states: &'a [i64], ends: &'a [i64]) -> Result<Self> {
        let wrong = |arg, reason: &str| Err(Error::Structure { arg, reason: reason.into() });
        check_len("ends", ends.len(), states.len(), "the number of tasks, and one more")?;
        let ascending = |x: &[i64]| x.windows(2).all(|w| w[0] <= w[1]);
        let (Some(&0), Some(&n_states), Some(&first)) = (states.first(), states.last(), ends.first()) else {
            return wrong("states", "must start with 0");
        };
        if !ascending(states) || !ascending(ends) || first != n_states {
            return wrong("ends", "must follow the states, both ascending");
        }
        let n = ends[ends.len() - 1] as usize;
        check_len("offsets", offsets.len(), n + 1, "the number of nodes, and one more")?;
        let limit = u64::from(u32::MAX) - 1;
        if let Some(got) = [n as u64, target.len() as u64].into_iter().find(|&x| x > limit) {
            return Err(Error::TooLarge { arg: "graph", limit, got });
        }
        if offsets[0] != 0 || !ascending(offsets) || offsets[n_states as usize] != target.len() as i64 {
            return wrong("offsets", "must ascend from 0 to the number of edges, and ends must have none");
        }
        let graph = Self { offsets, target, states, ends };
        for t in 0..graph.n_tasks() {
            let (here, over) = (graph.states(t), graph.ends(t));
            let inside = |&v: &i64| {
                usize::try_from(v).is_ok_and(|v| here.contains(&v) || over.contains(&v)) // never across tasks
            };
            if !target[graph.edges(t)].iter().all(inside) {
                return wrong("target", "must be a node of the task of the source");
            }
        }
        if offsets[n] != target.len() as i64 {
            return wrong("offsets", "must give ends no edges");
        }
        Ok(graph)
    }

    /// Number of nodes.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of edges.
    #[must_use]
    pub fn n_edges(&self) -> usize {
        self.target.len()
    }

    fn n_tasks(&self) -> usize {
        self.states.len() - 1
    }

    fn states(&self, task: usize) -> Range<usize> {
        self.states[task] as usize..self.states[task + 1] as usize
    }

    fn ends(&self, task: usize) -> Range<usize> {
        self.ends[task] as usize..self.ends[task + 1] as usize
    }

    fn edges(&self, task: usize) -> Range<usize> {
        let states = self.states(task);
        self.offsets[states.start] as usize..self.offsets[states.end] as usize
    }
}

/// The graph of one task, its states numbered from 0 and its ends after them.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// Edges of state `u` are `offsets[u]..offsets[u + 1]`.
    pub(super) offsets: Vec<u32>,
    pub(super) target: Vec<u32>,
    /// Its edges among all.
    pub(super) edges: Range<usize>,
    states: Range<usize>,
    ends: Range<usize>,
}

impl Task {
    fn load(&mut self, graph: &StepGraph<'_>, task: usize) {
        (self.states, self.ends, self.edges) = (graph.states(task), graph.ends(task), graph.edges(task));
        let (first, n) = (self.states.start as i64, self.states.len() as i64);
        let base = self.edges.start as i64;
        self.offsets.clear();
        self.offsets
            .extend(graph.offsets[self.states.start..=self.states.end].iter().map(|o| (o - base) as u32));
        let shift = self.ends.start as i64 - n;
        self.target.clear();
        self.target.extend(graph.target[self.edges.clone()].iter().map(|&v| {
            // An end comes after all states of all tasks.
            (if v - first < n { v - first } else { v - shift }) as u32
        }));
    }

    pub(super) fn n_states(&self) -> usize {
        self.states.len()
    }

    pub(super) fn n_nodes(&self) -> usize {
        self.states.len() + self.ends.len()
    }

    /// Edges that leave a state.
    pub(super) fn out(&self, u: u32) -> Range<usize> {
        self.offsets[u as usize] as usize..self.offsets[u as usize + 1] as usize
    }

    /// What the nodes of this task have of one value a node.
    pub(super) fn gather<T: Copy>(&self, all: &[T], here: &mut Vec<T>) {
        here.clear();
        here.extend_from_slice(&all[self.states.clone()]);
        here.extend_from_slice(&all[self.ends.clone()]);
    }

    /// Edges by the node they lead to: `(offsets, edge, source)`.
    pub(super) fn reversed(&self) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        let mut offsets = vec![0u32; self.n_nodes() + 1];
        for &v in &self.target {
            offsets[v as usize + 1] += 1;
        }
        for v in 0..self.n_nodes() {
            offsets[v + 1] += offsets[v];
        }
        let mut next = offsets.clone();
        let (mut edge, mut source) = (vec![0u32; self.target.len()], vec![0u32; self.target.len()]);
        for u in 0..self.n_states() as u32 {
            for e in self.out(u) {
                let place = &mut next[self.target[e] as usize];
                (edge[*place as usize], source[*place as usize]) = (e as u32, u);
                *place += 1;
            }
        }
        (offsets, edge, source)
    }
}

/// Calls `f(memory, task, values)` for each task, which fills one value a node of the task; they go to `out`. Each task is
/// the work of one thread, so that neither their number nor other tasks change a bit.
pub(super) fn by_task<M: Default>(
    graph: &StepGraph<'_>,
    out: &mut [f64],
    par: Par,
    f: impl Fn(&mut M, &Task, &mut [f64]) -> Result<()> + Sync,
) -> Result<()> {
    check_len("out", out.len(), graph.n_nodes(), "the number of nodes")?;
    let work: Vec<usize> =
        graph.states.iter().map(|&u| u as usize + graph.offsets[u as usize] as usize).collect();
    let pieces = if par == Par::Serial { 1 } else { 8 * rayon::current_num_threads() };
    let (mut states, mut ends) = out.split_at_mut(graph.ends[0] as usize);
    let mut runs = Vec::new();
    for w in balanced(&work, pieces).windows(2) {
        let (here, rest) = states.split_at_mut((graph.states[w[1]] - graph.states[w[0]]) as usize);
        let (over, others) = ends.split_at_mut((graph.ends[w[1]] - graph.ends[w[0]]) as usize);
        runs.push((w[0]..w[1], here, over));
        (states, ends) = (rest, others);
    }
    let run = |(tasks, mut states, mut ends): (Range<usize>, &mut [f64], &mut [f64])| -> Result<()> {
        let (mut memory, mut task, mut values) = (M::default(), Task::default(), Vec::new());
        for t in tasks {
            task.load(graph, t);
            values.clear();
            values.resize(task.n_nodes(), 0.0);
            f(&mut memory, &task, &mut values)?;
            let (here, rest) = states.split_at_mut(task.n_states());
            let (over, others) = ends.split_at_mut(task.ends.len());
            here.copy_from_slice(&values[..task.n_states()]);
            over.copy_from_slice(&values[task.n_states()..]);
            (states, ends) = (rest, others);
        }
        Ok(())
    };
    match par {
        Par::Serial => runs.into_iter().try_for_each(run),
        // All of them, so that the error is that of the first task that has one.
        Par::Threads => runs.into_par_iter().map(run).collect::<Vec<_>>().into_iter().collect(),
    }
}
