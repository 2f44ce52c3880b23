//! Step tables: keys of states and actions as numbers, and the rows that agree on them.

mod keys;
mod rows;
mod table;
mod window;

pub use keys::{Keys, number_keys};
pub use rows::group_rows;
pub use window::window;
