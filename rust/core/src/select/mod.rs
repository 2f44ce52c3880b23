//! Selections: which rollouts, tokens and prompts to train on.

mod exact;
pub mod max_variance;
pub mod places;
mod slots;
//! Selection: what the budgets and samplers of Python stand on.

pub mod budget;
mod budget_program;
mod exact;
pub mod max_variance;
pub mod places;
pub mod sampler;
mod slots;
pub mod sum_tree;
pub mod tokens;
pub mod tokens_bracket;
pub mod tokens_count;
pub mod tokens_rows;
pub mod tokens_score;
