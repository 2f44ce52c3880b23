//! Step graphs: the states that rollouts of a task share, and passes over them.

mod backup;
mod best;
mod distance;
mod edges;
mod graph;
mod linear;
mod scc;
mod soft;

pub use backup::{Backup, Values, backup};
pub use distance::distance;
pub use edges::{Edges, edges};
pub use graph::StepGraph;
