//! Where the tokens of each node are: spans into rows of the caller instead of copies.

use super::{Forest, NONE, structure};
use crate::error::{Error, Result, check_len};
use crate::groups::MAX_ROWS;
use crate::ragged::check_offsets;

/// What is known of the rows that spans point into.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Nothing: there are as many as spans name. Every row that holds tokens holds a node, so there are fewer than
    /// nodes, and a row number past that is an error instead of memory for that many rows.
    Named,
    /// How many there are.
    Number(usize),
    /// Where each starts in the flat tokens, and the end.
    Offsets(Vec<i64>),
}

/// Number of tokens of each node and, if known, the place of them; all by node id.
#[derive(Debug, Clone, PartialEq)]
pub struct Spans {
    lengths: Vec<i64>,
    n_tokens: usize,
    places: Option<Places>,
    /// The nodes that have tokens, in the order of these.
    order: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq)]
struct Places {
    rows: Vec<i64>,
    starts: Vec<i64>,
    n_rows: usize,
    /// Where each row starts in the flat tokens, if the rows lie in one array.
    offsets: Option<Vec<i64>>,
}

impl Spans {
    /// Of nodes whose tokens are only counted.
    ///
    /// # Errors
    /// [`Error::Range`] for a negative length, or if their sum is not an int64.
    pub fn from_lengths(lengths: Vec<i64>) -> Result<Self> {
        Self::counted("lengths", "", lengths)
    }

    /// Of nodes whose tokens are `rows[v]`'s from `starts[v]` on. The row and start of a node without tokens mean
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Range`] as of [`Spans::from_lengths`], [`Error::Length`] and [`Error::Structure`] for spans that do not
    /// fit `known` or overlap, [`Error::TooLarge`] for more than [`MAX_ROWS`] rows.
    pub fn new(rows: Vec<i64>, starts: Vec<i64>, lengths: Vec<i64>, known: Rows) -> Result<Self> {
        check_len("spans", rows.len(), lengths.len(), "the number of nodes")?;
        check_len("spans", starts.len(), lengths.len(), "the number of nodes")?;
        let mut spans = Self::counted("spans", "length ", lengths)?;
        let with_tokens = || spans.order.iter().map(|&v| v as usize);
        if let Some(v) = with_tokens().find(|&v| rows[v] < 0 || starts[v] < 0) {
            let text =
                format!("must not be negative, got row {} and start {} for node {v}", rows[v], starts[v]);
            return structure("spans", text);
        }
        let (limit, why) = match &known {
            Rows::Named => (rows.len(), "the number of nodes; give 'offsets' if there are more rows"),
            Rows::Number(n) if *n as u64 > MAX_ROWS => {
                return Err(Error::TooLarge { arg: "n_rows", limit: MAX_ROWS, got: *n as u64 });
            }
            Rows::Number(n) => (*n, "the number of rows"),
            Rows::Offsets(offsets) => {
                let total = offsets.last().copied().unwrap_or(0).max(0) as usize;
                check_offsets("offsets", offsets, total)?;
                (offsets.len() - 1, "len(offsets) - 1")
            }
        };
        let mut named = 0;
        for v in with_tokens() {
            let row = usize::try_from(rows[v]).unwrap_or(usize::MAX);
            if row >= limit {
                return structure(
                    "spans",
                    format!("must name a row below {limit} (= {why}), got {row} for node {v}"),
                );
            }
            named = named.max(row + 1);
            check_end(&known, v, row, starts[v], spans.lengths[v])?;
        }
        let (n_rows, offsets) = match known {
            Rows::Named => (named, None),
            Rows::Number(n) => (n, None),
            Rows::Offsets(offsets) => (limit, Some(offsets)),
        };
        spans.order.sort_unstable_by_key(|&v| (rows[v as usize], starts[v as usize]));
        for w in spans.order.windows(2) {
            let (a, b) = (w[0] as usize, w[1] as usize);
            // Ends have been checked, so the sum is one.
            if rows[a] == rows[b] && starts[a] + spans.lengths[a] > starts[b] {
                let at = format!("position {} of row {}", starts[b], rows[b]);
                return structure("spans", format!("must not overlap, got {at} in nodes {a} and {b}"));
            }
        }
        spans.places = Some(Places { rows, starts, n_rows, offsets });
        Ok(spans)
    }

    fn counted(arg: &'static str, what: &str, lengths: Vec<i64>) -> Result<Self> {
        if let Some(v) = lengths.iter().position(|&n| n < 0) {
            let got = format!("{what}{} for node {v}", lengths[v]);
            return Err(Error::Range { arg, expected: "not negative".into(), got });
        }
        // At most 2^32 numbers below 2^63.
        let total: u128 = lengths.iter().map(|&n| n as u128).sum();
        if total > i64::MAX as u128 {
            return Err(Error::Range {
                arg,
                expected: format!("at most {} tokens", i64::MAX),
                got: total.to_string(),
            });
        }
        let order = (0..lengths.len() as u32).filter(|&v| lengths[v as usize] > 0).collect();
        Ok(Self { lengths, n_tokens: total as usize, places: None, order })
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// True if there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Number of tokens of each node.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Number of tokens of all nodes, each counted once.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Row and start of each node, if places are known.
    #[must_use]
    pub fn places(&self) -> Option<(&[i64], &[i64])> {
        self.places.as_ref().map(|p| (&p.rows[..], &p.starts[..]))
    }

    /// Where each row starts in the flat tokens, if that is known.
    #[must_use]
    pub fn offsets(&self) -> Option<&[i64]> {
        self.places.as_ref().and_then(|p| p.offsets.as_deref())
    }

    /// The nodes that have tokens, in the order of their tokens: by place, or by id if places are not known.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Number of rows of tokens: those of the caller or, if places are not known, one a node.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.places.as_ref().map_or(self.lengths.len(), |p| p.n_rows)
    }

    /// Row of the tokens of node `v`.
    pub(super) fn row(&self, v: usize) -> usize {
        self.places.as_ref().map_or(v, |p| p.rows[v] as usize)
    }

    /// The spans of the nodes `keep`, which get the ids 0, 1, ...
    pub(super) fn take(&self, keep: &[u32]) -> Self {
        let pick = |x: &[i64]| keep.iter().map(|&v| x[v as usize]).collect::<Vec<_>>();
        let mut id = vec![NONE; self.len()];
        for (new, &old) in keep.iter().enumerate() {
            id[old as usize] = new as u32;
        }
        let order = self.order.iter().map(|&v| id[v as usize]).filter(|&v| v != NONE);
        let lengths = pick(&self.lengths);
        Self {
            n_tokens: lengths.iter().map(|&n| n as usize).sum(),
            lengths,
            places: self.places.as_ref().map(|p| Places {
                rows: pick(&p.rows),
                starts: pick(&p.starts),
                n_rows: p.n_rows,
                offsets: p.offsets.clone(),
            }),
            order: order.collect(),
        }
    }
}

impl Forest {
    /// The spans, or an error that says how to give them.
    pub(super) fn spans_or_error(&self) -> Result<&Spans> {
        match &self.spans {
            Some(spans) => Ok(spans),
            None => structure("forest", "has no tokens; build it with lengths= or spans="),
        }
    }
}

/// A span must end within its row or, if only offsets would tell how long that is, within int64.
fn check_end(known: &Rows, v: usize, row: usize, start: i64, length: i64) -> Result<()> {
    let end = start.checked_add(length);
    if let Rows::Offsets(offsets) = known {
        let width = offsets[row + 1] - offsets[row];
        if end.is_none_or(|end| end > width) {
            let end = end.unwrap_or(i64::MAX);
            let text =
                format!("must end within their rows, got {end} for node {v} in row {row} of length {width}");
            return structure("spans", text);
        }
    }
    if end.is_none() {
        let text = format!("must end within int64, got start {start} and length {length} for node {v}");
        return structure("spans", text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(rows: &[i64], starts: &[i64], lengths: &[i64], known: Rows) -> Result<Spans> {
        Spans::new(rows.to_vec(), starts.to_vec(), lengths.to_vec(), known)
    }

    fn text(rows: &[i64], starts: &[i64], lengths: &[i64], offsets: Option<&[i64]>) -> String {
        let known = offsets.map_or(Rows::Named, |o| Rows::Offsets(o.to_vec()));
        make(rows, starts, lengths, known).unwrap_err().to_string()
    }

    #[test]
    fn messages() {
        assert!(text(&[0, 0], &[0, 1], &[2, 1], None).contains("got position 1 of row 0 in nodes 0 and 1"));
        assert!(
            text(&[1], &[0], &[2], Some(&[0, 3])).contains("below 1 (= len(offsets) - 1), got 1 for node 0")
        );
        assert!(text(&[0], &[2], &[2], Some(&[0, 3])).contains("got 4 for node 0 in row 0 of length 3"));
        assert!(text(&[0], &[i64::MAX], &[2], Some(&[0, 3])).contains("must end within"));
        assert!(
            text(&[-1], &[0], &[1], None)
                .contains("'spans' must not be negative, got row -1 and start 0 for node 0")
        );
        assert!(
            text(&[0], &[0], &[-1], None).contains("'spans' must be not negative, got length -1 for node 0")
        );
        assert!(text(&[0], &[], &[1], None).contains("'spans' must have length 1"));
    }

    #[test]
    fn sizes_past_all_memory() {
        for row in [1, 10_000_000_000, 1 << 60, i64::MAX] {
            let e = text(&[row], &[0], &[1], None);
            assert!(e.contains("below 1 (= the number of nodes; give 'offsets' if"), "{e}");
        }
        assert!(
            text(&[0], &[i64::MAX], &[2], None).contains("within int64, got start 9223372036854775807 and")
        );
        let e = text(&[0, 1], &[0, 0], &[i64::MAX, 1], None);
        assert!(e.contains("'spans' must be at most 9223372036854775807 tokens, got 9223372036854775808"));
        let e = Spans::from_lengths(vec![i64::MAX; 3]).unwrap_err().to_string();
        assert!(e.contains("'lengths' must be at most"));
        assert!(make(&[0], &[0], &[1], Rows::Number(usize::MAX)).is_err());
        assert!(make(&[2], &[0], &[1], Rows::Number(2)).is_err());
        assert!(make(&[], &[], &[], Rows::Offsets(vec![])).is_err());
    }

    #[test]
    fn the_number_of_rows() {
        assert_eq!(make(&[1, 0], &[0, 0], &[1, 1], Rows::Named).unwrap().n_rows(), 2);
        assert_eq!(make(&[9, 0], &[0, 0], &[0, 1], Rows::Named).unwrap().n_rows(), 1);
        assert_eq!(make(&[0], &[0], &[1], Rows::Number(7)).unwrap().n_rows(), 7);
        assert_eq!(make(&[0], &[0], &[1], Rows::Offsets(vec![0, 1, 1])).unwrap().n_rows(), 2);
        assert_eq!(Spans::from_lengths(vec![0; 3]).unwrap().n_rows(), 3);
    }

    #[test]
    fn places_of_nodes_without_tokens_mean_nothing() {
        let s = make(&[-1, 1, 0], &[-1, 0, 0], &[0, 2, 1], Rows::Offsets(vec![0, 1, 3])).unwrap();
        assert_eq!(s.order(), [2, 1]);
        assert_eq!((s.take(&[0, 1]).order(), s.take(&[0, 1]).n_tokens()), (&[1][..], 2));
    }
}
