//! A forest as one token sequence.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::forest;

use super::{Ints, Preorder};
use crate::args::{array1, slice};
use crate::errors::Call;
use crate::pool;

type Narrow<'py> = Bound<'py, PyArray1<i32>>;
type Packed<'py> = (Ints<'py>, Narrow<'py>, Narrow<'py>, Narrow<'py>, Ints<'py>, Ints<'py>);

/// By token of `trees` (int64): place in the flat tokens, position, end of its interval, the token before. By node that
/// has tokens: its id, and where they start.
#[pyfunction]
fn forest_pack<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    trees: &Bound<'py, PyAny>,
) -> PyResult<Packed<'py>> {
    let call = Call::new(who);
    let trees = array1::<i64>(&call, "trees", trees)?;
    let trees = slice(&call, "trees", &trees)?;
    let tokens = forest.forest.spans().map_or(0, forest::Spans::n_tokens);
    let made = pool::run(py, tokens, |par| forest::pack(&forest.forest, trees, par))?;
    let p = made.map_err(|e| call.core(e))?;
    Ok((
        p.index.into_pyarray(py),
        p.positions.into_pyarray(py),
        p.end.into_pyarray(py),
        p.previous.into_pyarray(py),
        p.nodes.into_pyarray(py),
        p.starts.into_pyarray(py),
    ))
}

/// The rollouts of `trees` (int64), the packed positions of their tokens, and offsets.
#[pyfunction]
fn forest_rollout_tokens<'py>(
    py: Python<'py>,
    who: &str,
    forest: &Preorder,
    trees: &Bound<'py, PyAny>,
    include_root: bool,
) -> PyResult<(Ints<'py>, Ints<'py>, Ints<'py>)> {
    let call = Call::new(who);
    let trees = array1::<i64>(&call, "trees", trees)?;
    let trees = slice(&call, "trees", &trees)?;
    let tokens = forest.forest.spans().map_or(0, forest::Spans::n_tokens);
    let made = pool::run(py, tokens, |par| forest::rollout_tokens(&forest.forest, trees, include_root, par))?;
    let (rollouts, tokens) = made.map_err(|e| call.core(e))?;
    Ok((rollouts.into_pyarray(py), tokens.values.into_pyarray(py), tokens.offsets.into_pyarray(py)))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forest_pack, m)?)?;
    m.add_function(wrap_pyfunction!(forest_rollout_tokens, m)?)
}
