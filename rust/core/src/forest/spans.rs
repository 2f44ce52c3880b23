//! Where the tokens of each node are: spans into rows of the caller instead of copies.

use super::{Forest, NONE, structure};
use crate::error::{Error, Result, check_len};
use crate::ragged::check_offsets;

/// Number of tokens of each node and, if known, the place of them; all by node id.
#[derive(Debug, Clone, PartialEq)]
pub struct Spans {
    lengths: Vec<i64>,
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
    /// [`Error::Range`] for a negative length.
    pub fn from_lengths(lengths: Vec<i64>) -> Result<Self> {
        if let Some(v) = lengths.iter().position(|&n| n < 0) {
            let got = format!("{} for node {v}", lengths[v]);
            return Err(Error::Range {
                arg: "lengths",
                expected: "not negative".into(),
                got,
            });
        }
        let order = (0..lengths.len() as u32)
            .filter(|&v| lengths[v as usize] > 0)
            .collect();
        Ok(Self {
            lengths,
            places: None,
            order,
        })
    }

    /// Of nodes whose tokens are `rows[v]`'s from `starts[v]` on; `offsets` tells where rows start in the flat tokens.
    /// The row and start of a node without tokens mean nothing.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Range`] for spans that do not fit `offsets`, [`Error::Structure`] if two overlap.
    pub fn new(
        rows: Vec<i64>,
        starts: Vec<i64>,
        lengths: Vec<i64>,
        offsets: Option<Vec<i64>>,
    ) -> Result<Self> {
        check_len("spans", rows.len(), lengths.len(), "the number of nodes")?;
        check_len("spans", starts.len(), lengths.len(), "the number of nodes")?;
        let mut spans = Self::from_lengths(lengths)?;
        let with_tokens = || spans.order.iter().map(|&v| v as usize);
        if let Some(v) = with_tokens().find(|&v| rows[v] < 0 || starts[v] < 0) {
            let text = format!(
                "must not be negative, got row {} and start {} for node {v}",
                rows[v], starts[v]
            );
            return structure("spans", text);
        }
        let mut n_rows = with_tokens().map(|v| rows[v] + 1).max().unwrap_or(0);
        if let Some(offsets) = &offsets {
            check_offsets(
                "offsets",
                offsets,
                offsets.last().copied().unwrap_or(0).max(0) as usize,
            )?;
            n_rows = offsets.len() as i64 - 1;
            for v in with_tokens() {
                check_inside(offsets, v, rows[v], starts[v], spans.lengths[v])?;
            }
        }
        spans
            .order
            .sort_unstable_by_key(|&v| (rows[v as usize], starts[v as usize]));
        for w in spans.order.windows(2) {
            let (a, b) = (w[0] as usize, w[1] as usize);
            if rows[a] == rows[b] && starts[a].saturating_add(spans.lengths[a]) > starts[b] {
                let at = format!("position {} of row {}", starts[b], rows[b]);
                return structure(
                    "spans",
                    format!("must not overlap, got {at} in nodes {a} and {b}"),
                );
            }
        }
        let n_rows = usize::try_from(n_rows).unwrap_or(0);
        spans.places = Some(Places {
            rows,
            starts,
            n_rows,
            offsets,
        });
        Ok(spans)
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
        self.lengths
            .iter()
            .fold(0, |n, &length| n.saturating_add(length as usize))
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
    pub(super) fn n_rows(&self) -> usize {
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
        Self {
            lengths: pick(&self.lengths),
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

fn check_inside(offsets: &[i64], v: usize, row: i64, start: i64, length: i64) -> Result<()> {
    let n_rows = offsets.len() - 1;
    if row >= n_rows as i64 {
        return structure(
            "spans",
            format!("must name a row below {n_rows} (= len(offsets) - 1), got {row} for node {v}"),
        );
    }
    let (width, end) = (
        offsets[row as usize + 1] - offsets[row as usize],
        start.saturating_add(length),
    );
    if end > width {
        return structure(
            "spans",
            format!("must end within their rows, got {end} for node {v} in row {row} of length {width}"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &[i64], starts: &[i64], lengths: &[i64], offsets: Option<&[i64]>) -> String {
        let offsets = offsets.map(<[i64]>::to_vec);
        Spans::new(rows.to_vec(), starts.to_vec(), lengths.to_vec(), offsets)
            .unwrap_err()
            .to_string()
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
        assert!(text(&[0], &[0], &[-1], None).contains("'lengths' must be not negative, got -1 for node 0"));
        assert!(text(&[0], &[], &[1], None).contains("'spans' must have length 1"));
    }

    #[test]
    fn places_of_nodes_without_tokens_mean_nothing() {
        let s = Spans::new(vec![-1, 1, 0], vec![-1, 0, 0], vec![0, 2, 1], Some(vec![0, 1, 3])).unwrap();
        assert_eq!(s.order(), [2, 1]);
        assert_eq!(s.take(&[0, 1]).order(), [1]);
    }
}
