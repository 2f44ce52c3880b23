//! `rollmath._core`: thin bindings, one file a core module. Functions take the public name they work for (`who`),
//! so that an error speaks of the call that the user wrote.

use pyo3::prelude::*;

mod args;
mod errors;
mod forest;
mod groups;
mod lists;
mod pool;
mod project;
mod ragged;
mod reduce;
mod rows;
mod scan;
mod select_budget;
mod select_sampler;
mod select_subset;
mod select_tokens;
mod step_graph;
mod steps;

/// Rust core of rollmath.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    pool::register(m)?;
    forest::register(m)?;
    groups::register(m)?;
    lists::register(m)?;
    project::register(m)?;
    ragged::register(m)?;
    reduce::register(m)?;
    rows::register(m)?;
    scan::register(m)?;
    select_budget::register(m)?;
    select_sampler::register(m)?;
    select_subset::register(m)?;
    select_tokens::register(m)?;
    step_graph::register(m)?;
    steps::register(m)?;
    Ok(())
}
