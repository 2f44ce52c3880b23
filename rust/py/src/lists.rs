//! Python lists of lists of numbers into one flat array, reading each object once.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString};

use crate::errors::Call;

type Flat<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<i64>>);

/// Where an element came from, for messages.
fn place(flat: usize, offsets: &[i64]) -> String {
    let row = offsets.partition_point(|&o| o <= flat as i64) - 1;
    format!("lists[{row}][{}]", flat - offsets[row] as usize)
}

/// An array by its `tolist`, any other sequence by its elements. Sets and dicts have no order that belongs to rows.
fn as_list<'py>(row: &Bound<'py, PyAny>) -> Option<Bound<'py, PyList>> {
    let list = match row.call_method0("tolist") {
        Ok(list) => list,
        Err(_) if row.cast::<PyString>().is_ok() || row.cast::<PyBytes>().is_ok() => return None,
        Err(_) => row.cast::<PySequence>().ok()?.to_list().ok()?.into_any(),
    };
    list.cast_into().ok()
}

/// Rows as lists, and their offsets. Rows that are no lists (tuples, arrays) are turned into lists first.
fn rows<'py>(call: &Call<'_>, lists: &Bound<'py, PyList>) -> PyResult<(Vec<Bound<'py, PyList>>, Vec<i64>)> {
    let mut rows = Vec::with_capacity(lists.len());
    let mut offsets = Vec::with_capacity(lists.len() + 1);
    let mut total = 0i64;
    offsets.push(0);
    for (i, row) in lists.iter().enumerate() {
        let row = match row.cast_into::<PyList>() {
            Ok(list) => list,
            Err(other) => as_list(&other.into_inner()).ok_or_else(|| {
                let text = "'lists' must hold lists of numbers, got something else at index";
                call.type_error(format!("{text} {i}"))
            })?,
        };
        total += row.len() as i64;
        offsets.push(total);
        rows.push(row);
    }
    Ok((rows, offsets))
}

/// Reads every element of `rows` with `read`, which returns `None` after setting a Python error.
fn flatten<'py, T: Clone + numpy::Element + Default>(
    call: &Call<'_>,
    py: Python<'py>,
    rows: &[Bound<'py, PyList>],
    offsets: &[i64],
    what: &str,
    read: impl Fn(*mut ffi::PyObject) -> Option<T>,
) -> PyResult<Bound<'py, PyArray1<T>>> {
    let total = offsets[offsets.len() - 1] as usize;
    // NumPy's allocation, because NumPy asks the system for huge pages: first touches cost more than the reading.
    let array = PyArray1::<T>::zeros(py, total, false);
    let mut guard = array.try_readwrite().map_err(|e| call.value_error(e))?;
    let out = guard.as_slice_mut().map_err(|e| call.value_error(e))?;
    let mut slots = out.iter_mut().enumerate();
    for (i, row) in rows.iter().enumerate() {
        let list = row.as_ptr();
        let n = (offsets[i + 1] - offsets[i]) as ffi::Py_ssize_t;
        for (k, (flat, slot)) in (0..n).zip(&mut slots) {
            // SAFETY: `list` is a list that `row` keeps alive. PyList_GetItem checks `k` (an element's __index__
            // may have shortened the list) and returns a borrowed reference; `read` takes its own where Python code may run.
            let value = unsafe {
                let item = ffi::PyList_GetItem(list, k);
                if item.is_null() { None } else { read(item) }
            };
            match value {
                Some(value) => *slot = value,
                None => {
                    let at = place(flat, offsets);
                    let cause = PyErr::take(py);
                    let text = format!("'lists' must hold {what}, got something else at {at}");
                    let error = call.type_error(text);
                    error.set_cause(py, cause);
                    return Err(error);
                }
            }
        }
    }
    drop(guard);
    Ok(array)
}

/// # Safety
/// `item` is a live object and the interpreter is held.
unsafe fn read_int(item: *mut ffi::PyObject) -> Option<i64> {
    // SAFETY: as of this function.
    unsafe {
        // The exact check is inline; the other one is a call under the stable ABI.
        let value = if ffi::PyLong_CheckExact(item) != 0 || ffi::PyLong_Check(item) != 0 {
            ffi::PyLong_AsLongLong(item)
        } else {
            // NumPy integers and others with __index__; floats have none and are refused.
            // The list may drop the item while its __index__ runs.
            ffi::Py_INCREF(item);
            let index = ffi::PyNumber_Index(item);
            ffi::Py_DECREF(item);
            if index.is_null() {
                return None;
            }
            let value = ffi::PyLong_AsLongLong(index);
            ffi::Py_DECREF(index);
            value
        };
        if value == -1 && !ffi::PyErr_Occurred().is_null() { None } else { Some(value) }
    }
}

/// # Safety
/// `item` is a live object and the interpreter is held.
unsafe fn read_float(item: *mut ffi::PyObject) -> Option<f64> {
    // SAFETY: as of this function.
    unsafe {
        ffi::Py_INCREF(item);
        let value = ffi::PyFloat_AsDouble(item);
        ffi::Py_DECREF(item);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() { None } else { Some(value) }
    }
}

/// A finite number must not become infinite.
fn narrow(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (narrow.is_finite() || !value.is_finite()).then_some(narrow)
}

/// One flat array and its offsets. `dtype`: int64, int32, float64, float32, or "" to take int64 or float64 by the
/// first element (int64 if there is none).
#[pyfunction]
fn from_lists<'py>(
    py: Python<'py>,
    who: &str,
    lists: &Bound<'py, PyList>,
    dtype: &str,
) -> PyResult<Flat<'py>> {
    let call = Call::new(who);
    let (rows, offsets) = rows(&call, lists)?;
    let first_is_float = || {
        let first = rows.iter().find(|r| !r.is_empty()).and_then(|r| r.get_item(0).ok());
        first.is_some_and(|f| f.call_method0("__index__").is_err())
    };
    let dtype = match dtype {
        "" if first_is_float() => "float64",
        "" => "int64",
        given => given,
    };
    let (ints, floats) = ("integers (that fit the dtype)", "numbers (that fit the dtype)");
    // SAFETY: `flatten` passes live objects and holds the interpreter.
    let values = unsafe {
        match dtype {
            "int64" => flatten(&call, py, &rows, &offsets, ints, |i| read_int(i))?.into_any(),
            "int32" => flatten(&call, py, &rows, &offsets, ints, |i| {
                read_int(i).and_then(|v| i32::try_from(v).ok())
            })?
            .into_any(),
            "float64" => flatten(&call, py, &rows, &offsets, floats, |i| read_float(i))?.into_any(),
            "float32" => {
                flatten(&call, py, &rows, &offsets, floats, |i| read_float(i).and_then(narrow))?.into_any()
            }
            other => {
                let names = "int64, int32, float64, float32";
                return Err(call.value_error(format!("'dtype' must be one of {names}, got {other}")));
            }
        }
    };
    Ok((values, PyArray1::from_vec(py, offsets)))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_lists, m)?)
}
