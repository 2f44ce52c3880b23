//! Selections: which rollouts, tokens and prompts to train on.

mod exact;
pub mod max_variance;
pub mod places;
mod slots;
//! Selection: what the budgets and samplers of Python stand on.

pub mod budget;
mod budget_program;
