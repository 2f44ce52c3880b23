//! The choices of a normalisation, one enum a question.

/// What is subtracted.
#[derive(Debug, Clone, Copy)]
pub enum Center<'a> {
    /// Nothing.
    None,
    /// Mean of the group.
    Mean,
    /// Mean of the other members of the group.
    LeaveOneOut,
    /// One number for all rows.
    Value(f64),
    /// One number a row.
    Rows(&'a [f64]),
    /// One number a group, taken from the group.
    Groups(&'a [f64]),
}

/// What it is divided by, before `eps`.
#[derive(Debug, Clone, Copy)]
pub enum Scale<'a> {
    /// Nothing.
    None,
    /// Standard deviation of the group.
    Std,
    /// Standard deviation of the other members of the group.
    LeaveOneOutStd,
    /// One number for all rows.
    Value(f64),
    /// One number a row.
    Rows(&'a [f64]),
    /// One number a group, taken from the group.
    Groups(&'a [f64]),
}

/// Where `eps` enters the denominator for a standard deviation `s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpsPlace {
    /// `s + eps`
    Add,
    /// `max(s, eps)`
    Max,
    /// `sqrt(s^2 + eps)`
    Sqrt,
    /// `s + eps` if `s > 0`, else 1
    WherePositive,
}

/// What the only valid member `x` of a group gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Singleton {
    /// 0
    Zero,
    /// Mean 0 and standard deviation 1 are taken for the group.
    Raw,
    /// Mean 0 and standard deviation `|x|` are taken for the group.
    Abs,
    /// NaN
    Nan,
    /// An error.
    Raise,
}

/// What a group of several equal values gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroSpread {
    /// Exactly 0.
    Zero,
    /// `x - center`, not divided.
    Unscaled,
    /// NaN
    Nan,
    /// An error.
    Raise,
}

/// What a NaN or an infinite value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanPolicy {
    /// Both are errors.
    Raise,
    /// NaN is a missing value: out of the statistics, result 0. Infinity is an error.
    Omit,
    /// Both spread over their group as IEEE arithmetic has it.
    Propagate,
}

/// Everything about the arithmetic that trainers disagree on.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Rules {
    pub ddof: u32,
    pub eps: f64,
    pub eps_place: EpsPlace,
    pub singleton: Singleton,
    pub zero_spread: ZeroSpread,
    pub nan: NanPolicy,
}
