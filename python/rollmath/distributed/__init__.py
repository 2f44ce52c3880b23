"""Groups that are spread over ranks: the same bits as on one process.

Every function here is a collective: all ranks of ``group`` call it, in the same order. It is one ``all_gather``, or two
where a rank has more than 32 KiB to send (:func:`gather`); :func:`prepare` needs more of these for methods of tokens,
and :func:`token_search` an ``all_reduce`` a round.
Without a process group (``torch.distributed`` not initialised) there is one rank, and nothing is sent.
"""

from rollmath.distributed._advantages import advantages
from rollmath.distributed._gather import Gathered, gather
from rollmath.distributed._losses import gather_metrics, normalizer
from rollmath.distributed._moments import moments, whiten
from rollmath.distributed._prepare import Prepared, prepare
from rollmath.distributed._select import Selected, select
from rollmath.distributed._token_search import token_search

__all__ = [
    "Gathered",
    "Prepared",
    "Selected",
    "advantages",
    "gather",
    "gather_metrics",
    "moments",
    "normalizer",
    "prepare",
    "select",
    "token_search",
    "whiten",
]
