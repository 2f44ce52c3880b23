//! Order-constrained projection.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyUntypedArray};
use pyo3::prelude::*;
use rollmath_core::project::{self as core_project, Each, Edges, Norm};

use crate::args::{array1, floats, slice, with_floats};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;

/// One number, or one for each.
#[derive(FromPyObject)]
enum Number<'py> {
    // Before the number, which an array of one element would pass for.
    Many(Bound<'py, PyUntypedArray>),
    One(f64),
}

type Many<'py> = Option<PyReadonlyArray1<'py, f64>>;

fn many<'py>(call: &Call<'_>, name: &str, number: &Number<'py>) -> PyResult<Many<'py>> {
    match number {
        Number::One(_) => Ok(None),
        Number::Many(array) => array1::<f64>(call, name, array.as_any()).map(Some),
    }
}

fn each<'a>(call: &Call<'_>, name: &str, number: &Number<'_>, array: &'a Many<'_>) -> PyResult<Each<'a>> {
    match (number, array) {
        (_, Some(array)) => Ok(Each::Many(slice(call, name, array)?)),
        (Number::One(value), None) => Ok(Each::One(*value)),
        (Number::Many(_), None) => Err(call.type_error(format!("'{name}' must be a number or an array"))),
    }
}

type Projected<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<u8>>);

/// The nearest values in order (float64, one a row), and a status a group. `edges`: lesser and greater rows (int64).
#[pyfunction]
#[pyo3(signature = (who, name, groups, x, edges, margin, norm, radius=None))]
#[allow(clippy::too_many_arguments)]
fn order_project<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    groups: &Csr,
    x: &Bound<'py, PyAny>,
    edges: (Bound<'py, PyAny>, Bound<'py, PyAny>),
    margin: Number<'py>,
    norm: &str,
    radius: Option<Number<'py>>,
) -> PyResult<Projected<'py>> {
    let call = Call::named(who, name);
    let norm = match norm {
        "free" => Norm::Free,
        "ball" => Norm::Ball,
        "sphere" => Norm::Sphere,
        other => {
            let text = format!("'norm' must be one of 'free', 'ball', 'sphere', got '{other}'");
            return Err(call.value_error(text));
        }
    };
    let x = floats(&call, name, x)?;
    let (from, to) = (array1::<i64>(&call, "edges", &edges.0)?, array1::<i64>(&call, "edges", &edges.1)?);
    let margins = many(&call, "margin", &margin)?;
    let radii = radius.as_ref().map_or(Ok(None), |r| many(&call, "radius", r))?;
    let edges = Edges {
        from: slice(&call, "edges", &from)?,
        to: slice(&call, "edges", &to)?,
        margin: each(&call, "margin", &margin, &margins)?,
    };
    let radius = radius.as_ref().map(|r| each(&call, "radius", r, &radii)).transpose()?;
    let groups = &groups.0;
    let work = groups.len() + edges.from.len();
    let out = with_floats!(&x, call, name, |x| {
        pool::run(py, work, |par| core_project::order_project(groups, x, edges, norm, radius, par))?
    });
    let (values, status) = out.map_err(|e| call.core(e))?;
    let status: Vec<u8> = status.into_iter().map(|s| s as u8).collect();
    Ok((values.into_pyarray(py), status.into_pyarray(py)))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(order_project, m)?)
}
