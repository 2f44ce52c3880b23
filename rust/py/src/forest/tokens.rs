//! Values of tokens.

use numpy::{Element, IntoPyArray, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use rollmath_core::forest::{self, Per};

use super::{Ints, Preorder};
use crate::args::{array1, slice};
use crate::errors::Call;
use crate::pool;

type Rows<'py> = (Bound<'py, PyAny>, Ints<'py>);

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
    m.add_function(wrap_pyfunction!(forest_expand, m)?)?;
    m.add_function(wrap_pyfunction!(forest_token_index, m)?)
}
