//! Core errors become Python exceptions that name the public function and its argument.

use pyo3::PyErr;
use pyo3::exceptions::{PyTypeError, PyValueError};
use rollmath_core::Error;

/// The public function on whose behalf a call is made, and what it calls its main argument (`x` in the core).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) who: &'a str,
    pub(crate) x: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn new(who: &'a str) -> Self {
        Self { who, x: "x" }
    }

    pub(crate) fn named(who: &'a str, x: &'a str) -> Self {
        Self { who, x }
    }

    pub(crate) fn value_error(&self, text: impl std::fmt::Display) -> PyErr {
        PyValueError::new_err(format!("{}(): {text}", self.who))
    }

    pub(crate) fn type_error(&self, text: impl std::fmt::Display) -> PyErr {
        PyTypeError::new_err(format!("{}(): {text}", self.who))
    }

    /// All core errors are about values; types and ranks are checked before the core is called.
    pub(crate) fn core(&self, error: Error) -> PyErr {
        let text = error.to_string();
        self.value_error(match text.strip_prefix("'x'") {
            Some(rest) => format!("'{}'{rest}", self.x),
            None => text,
        })
    }
}
