//! Step graphs: their edges, and passes over them.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::steps::{self, Backup, StepGraph, Values};

use crate::args::{array1, fresh, mask, slice};
use crate::errors::Call;
use crate::pool;

/// Arrays of a graph: offsets, target, states of tasks, ends of tasks.
type Arrays<'py> = [Bound<'py, PyAny>; 4];

macro_rules! with_graph {
    ($call:expr, $arrays:expr, |$graph:ident| $body:expr) => {{
        let [offsets, target, states, ends] = $arrays;
        let offsets = array1::<i64>(&$call, "offsets", offsets)?;
        let target = array1::<i64>(&$call, "target", target)?;
        let states = array1::<i64>(&$call, "states", states)?;
        let ends = array1::<i64>(&$call, "ends", ends)?;
        let $graph = StepGraph::new(
            slice(&$call, "offsets", &offsets)?,
            slice(&$call, "target", &target)?,
            slice(&$call, "states", &states)?,
            slice(&$call, "ends", &ends)?,
        )
        .map_err(|e| $call.core(e))?;
        $body
    }};
}

type Ints<'py> = Bound<'py, PyArray1<i64>>;

/// Edges of rows: edge of each row, a row of each edge, visits, trajectories, offsets.
#[pyfunction]
fn step_edges<'py>(
    py: Python<'py>,
    who: &str,
    source: &Bound<'py, PyAny>,
    action: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    trajectory: &Bound<'py, PyAny>,
    n_nodes: usize,
) -> PyResult<[Ints<'py>; 5]> {
    let call = Call::new(who);
    let (source, action) = (array1::<i64>(&call, "source", source)?, array1::<i64>(&call, "action", action)?);
    let (target, rollout) =
        (array1::<i64>(&call, "target", target)?, array1::<i64>(&call, "trajectory", trajectory)?);
    let (source, action) = (slice(&call, "source", &source)?, slice(&call, "action", &action)?);
    let (target, rollout) = (slice(&call, "target", &target)?, slice(&call, "trajectory", &rollout)?);
    let made =
        py.detach(|| steps::edges(source, action, target, rollout, n_nodes)).map_err(|e| call.core(e))?;
    Ok([made.of_row, made.row, made.visits, made.trajectories, made.offsets].map(|x| x.into_pyarray(py)))
}

/// Bellman backup. `how` is "mean", "max" or "logsumexp"; `options` are gamma, beta and the value of the unreachable,
/// `iterate` tolerance and sweeps.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn graph_backup<'py>(
    py: Python<'py>,
    who: &str,
    graph: Arrays<'py>,
    sinks: &Bound<'py, PyAny>,
    how: &str,
    options: (f64, f64, f64),
    edge_rewards: Option<&Bound<'py, PyAny>>,
    weights: Option<&Bound<'py, PyAny>>,
    iterate: (f64, usize),
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::new(who);
    let ((gamma, beta, unreachable), (tol, max_sweeps)) = (options, iterate);
    let how = match how {
        "mean" => Backup::Mean,
        "max" => Backup::Max,
        "logsumexp" => Backup::LogSumExp { beta },
        other => return Err(call.value_error(format!("'how' has no choice '{other}'"))),
    };
    let sinks = array1::<f64>(&call, "sinks", sinks)?;
    let rewards = edge_rewards.map(|x| array1::<f64>(&call, "edge_rewards", x)).transpose()?;
    let weights = weights.map(|x| array1::<f64>(&call, "weights", x)).transpose()?;
    let by = Values {
        sinks: slice(&call, "sinks", &sinks)?,
        rewards: rewards.as_ref().map(|x| slice(&call, "edge_rewards", x)).transpose()?,
        weights: weights.as_ref().map(|x| slice(&call, "weights", x)).transpose()?,
        gamma,
        unreachable,
        tol,
        max_sweeps,
    };
    with_graph!(call, &graph, |graph| fresh::<f64>(py, &call, graph.n_nodes(), |out| {
        pool::run(py, graph.n_nodes() + graph.n_edges(), |par| steps::backup(&graph, how, &by, out, par))
    }))
}

/// Shortest distances.
#[pyfunction]
fn graph_distance<'py>(
    py: Python<'py>,
    who: &str,
    graph: Arrays<'py>,
    sources: &Bound<'py, PyAny>,
    costs: Option<&Bound<'py, PyAny>>,
    reverse: bool,
    unreachable: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::new(who);
    let Some(sources) = mask(&call, "sources", Some(sources))? else {
        return Err(call.value_error("'sources' is missing"));
    };
    let sources: Vec<bool> = slice(&call, "sources", &sources)?.iter().map(|&b| b != 0).collect();
    let costs = costs.map(|x| array1::<f64>(&call, "costs", x)).transpose()?;
    let costs = costs.as_ref().map(|x| slice(&call, "costs", x)).transpose()?;
    with_graph!(call, &graph, |graph| fresh::<f64>(py, &call, graph.n_nodes(), |out| {
        pool::run(py, graph.n_nodes() + graph.n_edges(), |par| {
            steps::distance(&graph, &sources, costs, reverse, unreachable, out, par)
        })
    }))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(step_edges, m)?)?;
    m.add_function(wrap_pyfunction!(graph_backup, m)?)?;
    m.add_function(wrap_pyfunction!(graph_distance, m)?)
}
