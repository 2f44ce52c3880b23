//! Values on forests: up from rollouts to nodes, and down along paths.

use numpy::Element;
use pyo3::prelude::*;
use rollmath_core::forest::{self, Backup, Down, LeafStat, Up};
use rollmath_core::{Par, Real, Result};

use super::Preorder;
use crate::args::{array1, floats, fresh, slice, with_floats};
use crate::errors::Call;
use crate::pool;
use crate::reduce::{choose, ddof};

/// One float a node from one float a rollout. `beta` is that of a logmeanexp; `weights` (float64) are by node.
#[pyfunction]
#[pyo3(signature = (who, name, forest, x, how, beta=0.0, weights=None, empty=f64::NAN))]
#[allow(clippy::too_many_arguments)]
fn forest_up<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    how: &str,
    beta: f64,
    weights: Option<&Bound<'py, PyAny>>,
    empty: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let how = choose!(call, "how", how, {
        "mean_of_children" => Up::MeanOfChildren, "leaf_mean" => Up::LeafMean, "sum" => Up::Sum, "max" => Up::Max,
        "min" => Up::Min, "any" => Up::Any, "all" => Up::All,
        "logmeanexp_of_children" => Up::LogMeanExpOfChildren { beta },
        "leaf_logmeanexp" => Up::LeafLogMeanExp { beta },
    });
    let x = floats(&call, name, x)?;
    let weights = weights.map(|w| array1::<f64>(&call, "weights", w)).transpose()?;
    let weights = weights.as_ref().map(|w| slice(&call, "weights", w)).transpose()?;
    let forest = &forest.forest;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| forest::up(forest, x, how, weights, empty, out, par))
    })
}

/// One float a node from the floats of the nodes from it to the leaves.
#[pyfunction]
fn forest_backup<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    gamma: f64,
    how: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let how = choose!(call, "how", how, { "max" => Backup::Max, "mean" => Backup::Mean });
    let x = floats(&call, name, x)?;
    let forest = &forest.forest;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| forest::backup(forest, x, gamma, how, out, par))
    })
}

/// One float a node from the floats of the nodes between its root and itself; `weights` (float64) are by node.
#[pyfunction]
#[pyo3(signature = (who, name, forest, x, how, weights=None))]
fn forest_down<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    how: &str,
    weights: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let how = choose!(call, "how", how, {
        "sum" => Down::Sum, "mean" => Down::Mean, "max" => Down::Max, "min" => Down::Min, "last" => Down::Last,
    });
    let x = floats(&call, name, x)?;
    let weights = weights.map(|w| array1::<f64>(&call, "weights", w)).transpose()?;
    let weights = weights.as_ref().map(|w| slice(&call, "weights", w)).transpose()?;
    let forest = &forest.forest;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| forest::down(forest, x, how, weights, out, par))
    })
}

/// One float a node from the floats of the rollouts below. `parameter` is ddof, q or k.
#[pyfunction]
#[pyo3(signature = (who, name, forest, x, how, parameter=0.0))]
fn forest_leaf_stat<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    how: &str,
    parameter: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::named(who, name);
    let what = choose!(call, "how", how, {
        "mean" => LeafStat::Mean,
        "var" => LeafStat::Var { ddof: ddof(&call, parameter)? },
        "std" => LeafStat::Std { ddof: ddof(&call, parameter)? },
        "quantile" => LeafStat::Quantile { q: parameter },
        "top_mean" => LeafStat::TopMean { k: parameter as usize },
    });
    let x = floats(&call, name, x)?;
    let forest = &forest.forest;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| forest::leaf_stat(forest, x, what, out, par))
    })
}

/// The float of each node's parent, `root` for roots.
#[pyfunction]
fn forest_parent<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    root: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let (call, forest) = (Call::named(who, name), &forest.forest);
    let x = floats(&call, name, x)?;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| {
            forest::parent_values(forest, x, Real::narrow(root), out, par)
        })
    })
}

/// The float of the root of each node's tree.
#[pyfunction]
fn forest_root<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (call, forest) = (Call::named(who, name), &forest.forest);
    let x = floats(&call, name, x)?;
    with_floats!(&x, call, name, |x| {
        by_node(py, &call, forest, x, |x, out, par| forest::root_values(forest, x, out, par))
    })
}

/// What `f(x, out, par)` writes to a new array of one element a node, of the type of `x`.
fn by_node<'py, T: Real + Element>(
    py: Python<'py>,
    call: &Call<'_>,
    forest: &forest::Forest,
    x: &[T],
    f: impl FnOnce(&[T], &mut [T], Par) -> Result<()> + Send,
) -> PyResult<Bound<'py, PyAny>> {
    fresh(py, call, forest.len(), |out| pool::run(py, forest.len(), |par| f(x, out, par)))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forest_up, m)?)?;
    m.add_function(wrap_pyfunction!(forest_backup, m)?)?;
    m.add_function(wrap_pyfunction!(forest_down, m)?)?;
    m.add_function(wrap_pyfunction!(forest_leaf_stat, m)?)?;
    m.add_function(wrap_pyfunction!(forest_parent, m)?)?;
    m.add_function(wrap_pyfunction!(forest_root, m)?)
}
