//! The arithmetic of rollmath: groups, segment reductions, ragged rows and rollout forests.
//!
//! No function here touches Python, starts a thread pool or changes an input. Results depend on the values alone:
//! not on the number of threads and not on the order of the rows within a group.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod error;
pub mod forest;
pub mod groups;
pub mod layout;
pub mod moments;
pub mod normalize;
pub mod par;
pub mod project;
pub mod ragged;
pub mod real;
pub mod reduce;
pub mod scan;
pub mod select;
pub mod steps;

pub use error::{Error, Result};
pub use forest::Forest;
pub use groups::Groups;
pub use layout::Layout;
pub use par::Par;
pub use real::Real;
