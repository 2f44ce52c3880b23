"""Types of the compiled core. Every function takes the public name it works for, for its error messages."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__version__: str

def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...

@final
class Csr:
    @staticmethod
    def from_ids(who: str, ids: NDArray[np.int64]) -> Csr: ...
    @staticmethod
    def from_objects(who: str, ids: list[Any]) -> Csr: ...
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
def normalize(
    who: str,
    name: str,
    groups: Csr,
    x: NDArray[Any],
    valid: NDArray[np.uint8] | None,
    center: str | float | NDArray[np.float64],
    scale: str | float | NDArray[np.float64],
    convention: Any,
) -> NDArray[Any]: ...
