//! Selections: which rollouts, tokens and prompts to train on.

pub mod budget;
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
