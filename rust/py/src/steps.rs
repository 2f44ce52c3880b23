//! Step tables: keys as numbers, and the rows that agree on them.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use rollmath_core::steps;

use crate::args::{array1, slice};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;

mod column;
mod encode;

use column::{Column, Given};

type Ints<'py> = Bound<'py, PyArray1<i64>>;

/// Work of hashing and looking up one key, in elements touched.
const KEY: usize = 32;

fn wide<'py>(py: Python<'py>, x: &[u32]) -> Ints<'py> {
    x.iter().map(|&i| i64::from(i)).collect::<Vec<_>>().into_pyarray(py)
}

/// Columns of int64 numbers from 0 to 2^32 - 2.
fn numbers(call: &Call<'_>, columns: &[Bound<'_, PyAny>]) -> PyResult<Vec<Vec<u32>>> {
    let narrow = |column: &Bound<'_, PyAny>| {
        let array = array1::<i64>(call, "columns", column)?;
        let read =
            slice(call, "columns", &array)?.iter().map(|&x| u32::try_from(x).ok().filter(|&x| x < u32::MAX));
        read.collect::<Option<Vec<u32>>>()
            .ok_or_else(|| call.value_error("'columns' must be between 0 and 2**32 - 2"))
    };
    columns.iter().map(narrow).collect()
}

/// Numbers the keys of columns together, within each task: the numbers of each column (int64) and the rank of each number.
///
/// A column is its name; its keys: a list or tuple of objects, or bytes (uint8); for bytes their type and the length of a
/// key; and, if the column does not have its keys in order, which of them each row has (int64).
#[pyfunction]
fn step_keys<'py>(
    py: Python<'py>,
    who: &str,
    tasks: &Csr,
    columns: Vec<Given<'py>>,
) -> PyResult<(Vec<Ints<'py>>, Ints<'py>)> {
    let call = Call::new(who);
    let read = columns.iter().map(|given| Column::read(&call, given)).collect::<PyResult<Vec<_>>>()?;
    for column in read.iter().skip(1) {
        column.check_kind(&call, &read[0])?;
    }
    let keys: Vec<&[&[u8]]> = read.iter().map(Column::keys).collect();
    let work = keys.iter().map(|c| c.len() * KEY).sum();
    let made = pool::run(py, work, |par| steps::number_keys(&keys, &tasks.0, par, column::prefetch))?
        .map_err(|e| call.core(e))?;
    let n = tasks.0.len().max(1);
    let mut index: Vec<Ints<'py>> = made.index.chunks(n).map(|c| wide(py, c)).collect();
    index.resize_with(read.len(), || wide(py, &[]));
    Ok((index, wide(py, &made.rank)))
}

/// Groups of the rows of one task that agree on all columns (int64, from 0).
#[pyfunction]
fn step_rows(py: Python<'_>, who: &str, tasks: &Csr, columns: Vec<Bound<'_, PyAny>>) -> PyResult<Csr> {
    let call = Call::new(who);
    let columns = numbers(&call, &columns)?;
    let columns: Vec<&[u32]> = columns.iter().map(Vec::as_slice).collect();
    let made = pool::run(py, tasks.0.len(), |par| steps::group_rows(&columns, &tasks.0, par))?;
    made.map(Csr).map_err(|e| call.core(e))
}

/// A number for the `history` steps before each row, equal where these agree on all columns; 0 if all is start.
#[pyfunction]
fn step_window<'py>(
    py: Python<'py>,
    who: &str,
    tasks: &Csr,
    columns: Vec<Bound<'py, PyAny>>,
    previous: &Bound<'py, PyAny>,
    history: usize,
) -> PyResult<Ints<'py>> {
    let call = Call::new(who);
    let columns = numbers(&call, &columns)?;
    let columns: Vec<&[u32]> = columns.iter().map(Vec::as_slice).collect();
    let previous = array1::<i64>(&call, "previous", previous)?;
    let previous = slice(&call, "previous", &previous)?;
    let work = tasks.0.len();
    let made = pool::run(py, work, |par| steps::window(&columns, previous, history, &tasks.0, par))?;
    let made = made.map_err(|e| call.core(e))?;
    Ok(made.iter().map(|&w| i64::from(w.wrapping_add(1))).collect::<Vec<_>>().into_pyarray(py))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(step_keys, m)?)?;
    m.add_function(wrap_pyfunction!(step_rows, m)?)?;
    m.add_function(wrap_pyfunction!(step_window, m)?)
}
