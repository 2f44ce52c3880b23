//! Values on forests: up to nodes, down by one step, out to tokens.

use numpy::{Element, IntoPyArray, PyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use rollmath_core::forest::{self, Per, Up};

use super::{Ints, Preorder};
use crate::args::{array1, floats, slice, with_floats};
use crate::errors::Call;
use crate::pool;

type Rows<'py> = (Bound<'py, PyAny>, Ints<'py>);

/// One float64 a node from one float a rollout.
#[pyfunction]
fn forest_up<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    how: &str,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let call = Call::named(who, name);
    let how = match how {
        "sum" => Up::Sum,
        "mean_of_children" => Up::MeanOfChildren,
        "leaf_mean" => Up::LeafMean,
        "max" => Up::Max,
        "min" => Up::Min,
        other => {
            let names = "'sum', 'mean_of_children', 'leaf_mean', 'max', 'min'";
            return Err(call.value_error(format!("'how' must be one of {names}, got '{other}'")));
        }
    };
    let x = floats(&call, name, x)?;
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, forest.0.len(), |par| forest::up(&forest.0, x, how, par))?
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
    fn run<'py, T: rollmath_core::Real + Element>(
        py: Python<'py>,
        call: &Call<'_>,
        forest: &forest::Forest,
        x: &[T],
        root: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let out = pool::run(py, x.len(), |par| forest::parent_values(forest, x, T::narrow(root), par))?;
        Ok(out.map_err(|e| call.core(e))?.into_pyarray(py).into_any())
    }
    let call = Call::named(who, name);
    let x = floats(&call, name, x)?;
    with_floats!(&x, call, name, |x| run(py, &call, &forest.0, x, root))
}

/// Values (any unsigned integers, as which other types are viewed) of tokens, and offsets. `per`: "rollout" or "node".
#[pyfunction]
fn forest_expand<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    per: &str,
    include_root: bool,
) -> PyResult<Rows<'py>> {
    let call = Call::new(who);
    let per = match per {
        "rollout" => Per::Rollout,
        "node" => Per::Node,
        other => {
            let text = format!("'per' must be one of 'rollout', 'node', got '{other}'");
            return Err(call.value_error(text));
        }
    };
    let size = x.cast::<PyUntypedArray>().map_or(0, |a| numpy::PyArrayDescrMethods::itemsize(&a.dtype()));
    match size {
        1 => expand_as::<u8>(py, &call, forest, x, per, include_root),
        2 => expand_as::<u16>(py, &call, forest, x, per, include_root),
        4 => expand_as::<u32>(py, &call, forest, x, per, include_root),
        _ => expand_as::<u64>(py, &call, forest, x, per, include_root),
    }
}

fn expand_as<'py, T: Element + Copy + Default + Send + Sync>(
    py: Python<'py>,
    call: &Call<'_>,
    forest: &Preorder,
    x: &Bound<'py, PyAny>,
    per: Per,
    include_root: bool,
) -> PyResult<Rows<'py>> {
    let x = array1::<T>(call, "x", x)?;
    let x = slice(call, "x", &x)?;
    let tokens = forest.0.spans().map_or(0, forest::Spans::n_tokens);
    let out = pool::run(py, tokens, |par| forest::expand(&forest.0, x, per, include_root, par))?;
    let out = out.map_err(|e| call.core(e))?;
    Ok((out.values.into_pyarray(py).into_any(), out.offsets.into_pyarray(py)))
}

/// Position in the caller's flat tokens of each token that `forest_expand` with "node" yields.
#[pyfunction]
fn forest_token_index<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    include_root: bool,
) -> PyResult<Ints<'py>> {
    let call = Call::new(who);
    let tokens = forest.0.spans().map_or(0, forest::Spans::n_tokens);
    let index = pool::run(py, tokens, |par| forest::token_index(&forest.0, include_root, par))?;
    Ok(index.map_err(|e| call.core(e))?.into_pyarray(py))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forest_up, m)?)?;
    m.add_function(wrap_pyfunction!(forest_parent, m)?)?;
    m.add_function(wrap_pyfunction!(forest_expand, m)?)?;
    m.add_function(wrap_pyfunction!(forest_token_index, m)?)
}
