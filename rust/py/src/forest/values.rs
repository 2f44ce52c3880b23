//! Values on forests: up from rollouts to nodes, and down along paths.

use numpy::{Element, IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::forest::{self, Backup, Down, LeafStat, Up};

use super::Preorder;
use crate::args::{array1, floats, slice, with_floats};
use crate::errors::Call;
use crate::pool;
use crate::reduce::{choose, ddof};

type Float64<'py> = Bound<'py, PyArray1<f64>>;

/// One float64 a node from one float a rollout. `beta` is that of a logmeanexp; `weights` (float64) are by node.
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
) -> PyResult<Float64<'py>> {
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
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, forest.forest.len(), |par| forest::up(&forest.forest, x, how, weights, empty, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// One float64 a node from the floats of the nodes from it to the leaves.
#[pyfunction]
fn forest_backup<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    gamma: f64,
    how: &str,
) -> PyResult<Float64<'py>> {
    let call = Call::named(who, name);
    let how = choose!(call, "how", how, { "max" => Backup::Max, "mean" => Backup::Mean });
    let x = floats(&call, name, x)?;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, forest.forest.len(), |par| forest::backup(&forest.forest, x, gamma, how, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// One float64 a node from the floats of the nodes between its root and itself.
#[pyfunction]
fn forest_down<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    how: &str,
) -> PyResult<Float64<'py>> {
    let call = Call::named(who, name);
    let how = choose!(call, "how", how, {
        "sum" => Down::Sum, "mean" => Down::Mean, "max" => Down::Max, "min" => Down::Min, "last" => Down::Last,
    });
    let x = floats(&call, name, x)?;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, forest.forest.len(), |par| forest::down(&forest.forest, x, how, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
}

/// One float64 a node from the floats of the rollouts below. `parameter` is ddof, q or k.
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
) -> PyResult<Float64<'py>> {
    let call = Call::named(who, name);
    let what = choose!(call, "how", how, {
        "mean" => LeafStat::Mean,
        "var" => LeafStat::Var { ddof: ddof(&call, parameter)? },
        "std" => LeafStat::Std { ddof: ddof(&call, parameter)? },
        "quantile" => LeafStat::Quantile { q: parameter },
        "top_mean" => LeafStat::TopMean { k: parameter as usize },
    });
    let x = floats(&call, name, x)?;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, forest.forest.len(), |par| forest::leaf_stat(&forest.forest, x, what, par))?
    });
    Ok(out.map_err(|e| call.core(e))?.into_pyarray(py))
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
    by_type(py, who, name, forest, x, Step::Parent(root))
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
    by_type(py, who, name, forest, x, Step::Root)
}

/// What a node takes from above without any arithmetic.
#[derive(Clone, Copy)]
enum Step {
    Parent(f64),
    Root,
}

fn by_type<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    step: Step,
) -> PyResult<Bound<'py, PyAny>> {
    fn run<'py, T: rollmath_core::Real + Element + Default>(
        py: Python<'py>,
        call: &Call<'_>,
        forest: &forest::Forest,
        x: &[T],
        step: Step,
    ) -> PyResult<Bound<'py, PyAny>> {
        let out = pool::run(py, x.len(), |par| match step {
            Step::Parent(root) => forest::parent_values(forest, x, T::narrow(root), par),
            Step::Root => forest::root_values(forest, x, par),
        })?;
        Ok(out.map_err(|e| call.core(e))?.into_pyarray(py).into_any())
    }
    let call = Call::named(who, name);
    let x = floats(&call, name, x)?;
    with_floats!(&x, call, name, |x| run(py, &call, &forest.forest, x, step))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forest_up, m)?)?;
    m.add_function(wrap_pyfunction!(forest_backup, m)?)?;
    m.add_function(wrap_pyfunction!(forest_down, m)?)?;
    m.add_function(wrap_pyfunction!(forest_leaf_stat, m)?)?;
    m.add_function(wrap_pyfunction!(forest_parent, m)?)?;
    m.add_function(wrap_pyfunction!(forest_root, m)?)
}
