"""Types of the compiled core. Every function takes the public name it works for, for its error messages."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Csr",
    "Layout",
    "Preorder",
    "Sampler",
    "__version__",
    "affine",
    "allocate",
    "check_offsets",
    "expand",
    "forest_backup",
    "forest_down",
    "forest_expand",
    "forest_leaf_stat",
    "forest_pack",
    "forest_parent",
    "forest_rollout_tokens",
    "forest_root",
    "forest_rows",
    "forest_token_index",
    "forest_up",
    "from_lists",
    "gae",
    "graph_backup",
    "graph_distance",
    "knapsack",
    "loo_mean",
    "mask_positions",
    "normalize",
    "num_threads",
    "offsets_from_lengths",
    "optimal_token_baseline",
    "order_project",
    "pack",
    "reduce",
    "row_moments",
    "select_max_variance",
    "select_places",
    "set_num_threads",
    "step_edges",
    "step_keys",
    "step_rows",
    "step_window",
    "token_counts",
    "token_mark",
    "token_random",
    "token_top",
    "unpack",
    "vtrace",
    "weighted_mean",
    "widen_bf16",
]

__version__: str

def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...

@final
class Csr:
    @staticmethod
    def from_ids(who: str, ids: NDArray[np.int64]) -> Csr: ...
    @staticmethod
    def from_objects(who: str, name: str, ids: list[Any]) -> Csr: ...
    @staticmethod
    def from_index(who: str, index: NDArray[np.int64], n_groups: int) -> Csr: ...
    @staticmethod
    def product(who: str, parts: list[Csr]) -> Csr: ...
    def __len__(self) -> int: ...
    @property
    def n_groups(self) -> int: ...
    @property
    def index(self) -> NDArray[np.int64]: ...
    @property
    def order(self) -> NDArray[np.int64]: ...
    @property
    def offsets(self) -> NDArray[np.int64]: ...

@final
class Sampler:
    def __new__(cls, who: str, weights: NDArray[np.float64], active: NDArray[Any], explore: float) -> Sampler: ...
    def __len__(self) -> int: ...
    def nodes(self) -> NDArray[np.float64]: ...
    def set(self, who: str, at: NDArray[np.int64], weights: NDArray[np.float64], active: NDArray[Any]) -> None: ...
    def draw(
        self,
        who: str,
        u: NDArray[np.float64],
        coin: NDArray[np.float64],
        replace: bool,
        exclude: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...

@final
class Preorder:
    @staticmethod
    def from_parents(
        who: str,
        parents: NDArray[np.int64],
        leaves: NDArray[np.int64] | None = None,
        lengths: NDArray[np.int64] | None = None,
        spans: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        offsets: NDArray[np.int64] | None = None,
        n_rows: int | None = None,
    ) -> Preorder: ...
    @staticmethod
    def from_sequences(
        who: str,
        tokens: NDArray[Any],
        offsets: NDArray[np.int64],
        groups: Csr,
        prompts: NDArray[np.int64] | None = None,
        payload: NDArray[np.int64] | None = None,
    ) -> Preorder: ...
    def prune(self, who: str, keep: NDArray[Any]) -> tuple[Preorder, NDArray[np.int64]]: ...
    def siblings(self, who: str) -> Csr: ...
    def __len__(self) -> int: ...
    @property
    def n_trees(self) -> int: ...
    @property
    def n_leaves(self) -> int: ...
    @property
    def parents(self) -> NDArray[np.int64]: ...
    @property
    def order(self) -> NDArray[np.int64]: ...
    @property
    def depth(self) -> NDArray[np.int64]: ...
    @property
    def leaves(self) -> NDArray[np.int64]: ...
    @property
    def leaf_counts(self) -> NDArray[np.int64]: ...
    @property
    def tree(self) -> NDArray[np.int64]: ...
    @property
    def roots(self) -> NDArray[np.int64]: ...
    @property
    def lengths(self) -> NDArray[np.int64] | None: ...
    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None: ...
    @property
    def n_rows(self) -> int | None: ...
    @property
    def offsets(self) -> NDArray[np.int64] | None: ...

def forest_up(
    who: str,
    name: str,
    forest: Preorder,
    x: NDArray[Any],
    how: str,
    beta: float = 0.0,
    weights: NDArray[np.float64] | None = None,
    empty: float = ...,
) -> NDArray[np.float64]: ...
def forest_backup(who: str, name: str, forest: Preorder, x: NDArray[Any], gamma: float, how: str) -> NDArray[Any]: ...
def forest_down(
    who: str, name: str, forest: Preorder, x: NDArray[Any], how: str, weights: NDArray[np.float64] | None = None
) -> NDArray[Any]: ...
def forest_leaf_stat(
    who: str, name: str, forest: Preorder, x: NDArray[Any], how: str, parameter: float = 0.0
) -> NDArray[Any]: ...
def forest_parent(who: str, name: str, forest: Preorder, x: NDArray[Any], root: float) -> NDArray[Any]: ...
def forest_root(who: str, name: str, forest: Preorder, x: NDArray[Any]) -> NDArray[Any]: ...
def forest_rows(who: str, forest: Preorder, per: str, include_root: bool) -> NDArray[np.int64]: ...
def forest_expand(
    who: str, forest: Preorder, x: NDArray[Any], per: str, include_root: bool, out: NDArray[Any]
) -> None: ...
def forest_pack(
    who: str, forest: Preorder, trees: NDArray[np.int64]
) -> tuple[
    NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]
]: ...
def forest_rollout_tokens(
    who: str, forest: Preorder, trees: NDArray[np.int64], include_root: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...
def forest_token_index(who: str, forest: Preorder, include_root: bool) -> NDArray[np.int64]: ...
def check_offsets(who: str, name: str, offsets: NDArray[np.int64], total: int) -> None: ...
def offsets_from_lengths(
    who: str, lengths: NDArray[np.int64], limit: int | None = None, limit_name: str = ""
) -> NDArray[np.int64]: ...
def pack(who: str, x: NDArray[Any], width: int, offsets: NDArray[np.int64], out: NDArray[Any]) -> None: ...
def unpack(
    who: str,
    values: NDArray[Any],
    offsets: NDArray[np.int64],
    width: int,
    fill: NDArray[Any],
    out: NDArray[Any],
) -> None: ...
def mask_positions(
    who: str, mask: NDArray[np.uint8], rows: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def widen_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]: ...
def from_lists(who: str, lists: list[Any], dtype: str) -> tuple[NDArray[Any], NDArray[np.int64]]: ...
def reduce(
    who: str,
    name: str,
    groups: Csr,
    x: NDArray[Any],
    valid: NDArray[np.uint8] | None,
    what: str,
    parameter: float = 0.0,
    method: str = "linear",
) -> NDArray[np.float64]: ...
def weighted_mean(
    who: str,
    name: str,
    groups: Csr,
    x: NDArray[Any],
    weights: NDArray[np.float64],
    valid: NDArray[np.uint8] | None,
) -> NDArray[np.float64]: ...
def loo_mean(
    who: str, name: str, groups: Csr, x: NDArray[Any], valid: NDArray[np.uint8] | None
) -> NDArray[np.float64]: ...
def normalize(
    who: str,
    name: str,
    groups: Csr,
    x: NDArray[Any],
    valid: NDArray[np.uint8] | None,
    center: str | float | NDArray[np.float64] | tuple[str, NDArray[np.float64]],
    scale: str | float | NDArray[np.float64] | tuple[str, NDArray[np.float64]],
    convention: Any,
) -> NDArray[Any]: ...
def order_project(
    who: str,
    name: str,
    groups: Csr,
    x: NDArray[Any],
    edges: tuple[NDArray[np.int64], NDArray[np.int64]],
    margin: float | NDArray[np.float64],
    norm: str,
    radius: float | NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]: ...

@final
class Layout:
    @staticmethod
    def packed(who: str, offsets: NDArray[np.int64]) -> Layout: ...
    @staticmethod
    def padded(who: str, rows: int, width: int, lengths: NDArray[np.int64] | None = None) -> Layout: ...
    def only(self, who: str, valid: NDArray[np.uint8]) -> Layout: ...
    @property
    def rows(self) -> int: ...
    @property
    def total(self) -> int: ...

def gae(
    who: str,
    layout: Layout,
    rewards: NDArray[Any],
    per_row: bool,
    values: NDArray[Any] | None,
    rule: tuple[NDArray[np.uint8] | None, str, str, str | NDArray[np.float64], NDArray[np.uint8] | None],
    decay: tuple[float, float | NDArray[np.float64], float | NDArray[np.float64] | None],
    advantages: NDArray[Any] | None,
    returns: NDArray[Any] | None,
    moments: bool,
) -> list[NDArray[np.float64]] | None: ...
def vtrace(
    who: str,
    layout: Layout,
    rewards: NDArray[Any],
    per_row: bool,
    values: NDArray[Any],
    log_ratios: NDArray[Any],
    rule: tuple[NDArray[np.uint8] | None, str, str, str | NDArray[np.float64], NDArray[np.uint8] | None],
    decay: tuple[float, float | NDArray[np.float64]],
    clips: tuple[float, float, float],
    advantages: NDArray[Any],
    returns: NDArray[Any],
) -> None: ...
def optimal_token_baseline(
    who: str,
    layout: Layout,
    groups: Csr,
    rewards: NDArray[Any],
    per_row: bool,
    logprobs: NDArray[Any],
    sum_pi_squared: NDArray[Any],
    is_weights: NDArray[Any] | None,
    rule: tuple[NDArray[np.uint8] | None, str, str, str | NDArray[np.float64], NDArray[np.uint8] | None],
    choices: tuple[bool, bool, float, bool],
    out: NDArray[Any],
) -> None: ...
def expand(who: str, layout: Layout, x: NDArray[Any], mask: NDArray[np.uint8] | None, out: NDArray[Any]) -> None: ...
def row_moments(
    who: str, name: str, layout: Layout, x: NDArray[Any], mask: NDArray[np.uint8] | None
) -> list[NDArray[np.float64]]: ...
def affine(
    who: str,
    name: str,
    layout: Layout,
    x: NDArray[Any] | None,
    mask: NDArray[np.uint8] | None,
    by: tuple[float, float, float],
    out: NDArray[Any],
) -> None: ...
def select_places(
    who: str,
    groups: Csr | None,
    key: NDArray[np.float64],
    seen: NDArray[Any] | None,
    preference: NDArray[np.int64] | None,
) -> NDArray[np.int64]: ...
def select_max_variance(
    who: str,
    name: str,
    groups: Csr | None,
    x: NDArray[np.float64],
    seen: NDArray[Any] | None,
    preference: NDArray[np.int64] | None,
    keep: int,
) -> NDArray[np.bool_]: ...
def step_edges(
    who: str,
    source: NDArray[np.int64],
    action: NDArray[np.int64],
    target: NDArray[np.int64],
    trajectory: NDArray[np.int64],
    n_nodes: int,
) -> list[NDArray[np.int64]]: ...
def graph_backup(
    who: str,
    graph: list[NDArray[np.int64]],
    sinks: NDArray[np.float64],
    how: str,
    options: tuple[float, float, float],
    edge_rewards: NDArray[np.float64] | None,
    weights: NDArray[np.float64] | None,
    iterate: tuple[float, int],
) -> NDArray[np.float64]: ...
def graph_distance(
    who: str,
    graph: list[NDArray[np.int64]],
    sources: NDArray[np.uint8],
    costs: NDArray[np.float64] | None,
    reverse: bool,
    unreachable: float,
) -> NDArray[np.float64]: ...
def step_keys(
    who: str,
    tasks: Csr,
    columns: list[tuple[str, list[Any] | tuple[Any, ...] | NDArray[np.uint8], str, int, NDArray[np.int64] | None]],
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]: ...
def step_rows(who: str, tasks: Csr, columns: list[NDArray[np.int64]]) -> Csr: ...
def step_window(
    who: str, tasks: Csr, columns: list[NDArray[np.int64]], previous: NDArray[np.int64], history: int
) -> NDArray[np.int64]: ...
def knapsack(
    who: str,
    rates: NDArray[np.float64],
    limits: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    budget: int,
    spare: str,
) -> NDArray[np.int64]: ...
def allocate(
    who: str,
    values: NDArray[np.float64],
    width: int,
    prompts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]],
    budget: int,
    method: str,
) -> tuple[NDArray[np.int64], bool]: ...
def token_top(
    who: str,
    name: str,
    layout: Layout,
    x: NDArray[Any],
    lowest: bool,
    weights: tuple[NDArray[Any], bool] | None,
    trained: NDArray[Any] | None,
    wanted: tuple[float | None, int | None, int],
    per_row: bool,
    ties: tuple[NDArray[np.uint64], NDArray[np.int64] | None] | None,
    out: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]: ...
def token_random(
    who: str,
    layout: Layout,
    trained: NDArray[Any] | None,
    wanted: tuple[float | None, int | None, int],
    per_row: bool,
    words: tuple[NDArray[np.uint64], NDArray[np.int64] | None],
    out: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]: ...
def token_counts(
    who: str,
    name: str,
    batch: tuple[Layout, NDArray[Any] | None, NDArray[Any], bool],
    number: int,
    prefix: int,
    tied: tuple[int, tuple[NDArray[np.uint64], NDArray[np.int64] | None]] | None,
) -> NDArray[np.int64]: ...
def token_mark(
    who: str,
    name: str,
    batch: tuple[Layout, NDArray[Any] | None, NDArray[Any], bool],
    key: int,
    tied: tuple[int, tuple[NDArray[np.uint64], NDArray[np.int64] | None]] | None,
    out: NDArray[np.uint8],
) -> None: ...
