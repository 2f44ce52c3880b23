//! Step tables and step graphs: keys of states and actions as numbers, the rows that agree on them, and passes over the
//! graph of the states that rollouts of a task share.

mod backup;
mod best;
mod distance;
mod edges;
mod graph;
mod keys;
mod linear;
mod rows;
mod scc;
mod soft;
mod table;
mod window;

pub use backup::{Backup, Values, backup};
pub use distance::distance;
pub use edges::{Edges, edges};
pub use graph::StepGraph;
pub use keys::{Keys, number_keys};
pub use rows::group_rows;
pub use window::window;
