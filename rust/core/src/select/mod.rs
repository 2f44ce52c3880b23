//! Selections: which rollouts, tokens and prompts to train on.

mod exact;
pub mod max_variance;
pub mod places;
mod slots;
