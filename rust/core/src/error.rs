//! One error enum with data; the binding turns it into a Python exception that names the argument.

use std::fmt;

/// What can be wrong with an input of this crate; `arg` is the name of the argument.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// `arg` has the wrong number of elements; `why` says where the expected number comes from.
    Length { arg: &'static str, expected: usize, got: usize, why: &'static str },
    /// `arg` has values that do not fit together (offsets, parents, spans, ...).
    Structure { arg: &'static str, reason: String },
    /// A parameter is outside its range.
    Range { arg: &'static str, expected: String, got: String },
    /// `arg[index]` is NaN or infinite where a finite number is needed.
    NonFinite { arg: &'static str, index: usize, value: f64, fix: &'static str },
    /// More elements than the index type holds.
    TooLarge { arg: &'static str, limit: u64, got: u64 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { arg, expected, got, why } => {
                write!(f, "'{arg}' must have length {expected} (= {why}), got {got}")
            }
            Self::Structure { arg, reason } => write!(f, "'{arg}' {reason}"),
            Self::Range { arg, expected, got } => write!(f, "'{arg}' must be {expected}, got {got}"),
            Self::NonFinite { arg, index, value, fix } => {
                write!(f, "'{arg}' must be finite, got {value} at index {index}; {fix}")
            }
            Self::TooLarge { arg, limit, got } => {
                write!(f, "'{arg}' must have at most {limit} elements, got {got}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Checks a length and says where the expected one comes from.
///
/// # Errors
/// [`Error::Length`] if the two differ.
pub fn check_len(arg: &'static str, got: usize, expected: usize, why: &'static str) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Length { arg, expected, got, why }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_argument() {
        let e = check_len("values", 3, 4, "offsets[-1]").unwrap_err();
        assert_eq!(e.to_string(), "'values' must have length 4 (= offsets[-1]), got 3");
    }
}
