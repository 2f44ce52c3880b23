//! Selection: what the budgets and samplers of Python stand on.

pub mod budget;
