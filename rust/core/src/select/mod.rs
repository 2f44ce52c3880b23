//! Selection: what choices of rollouts, tokens and prompts stand on.

pub mod sampler;
pub mod sum_tree;
