"""AReaL's Normalization, which its trainers apply to rewards in consecutive groups of one size."""

from types import SimpleNamespace

from _common import CONSTANT, Record, equal_sizes, stand_in

stubs = stand_in(
    *(
        "PIL",
        "aiofiles",
        "aiohttp",
        "flask",
        "httpx",
        "hydra",
        "lark",
        "numba",
        "openai",
        "orjson",
        "psutil",
        "pydantic",
    ),
    *("ray", "requests", "tenacity", "torchdata", "transformers", "uvloop", "werkzeug"),
)

from areal.utils.data import Normalization  # noqa: E402

record = Record("areal", "AREAL")


def run(size, **options):
    plain = {"mean_level": "group", "mean_leave1out": False, "std_level": "group", "std_unbiased": True, "eps": 1e-5}
    normalization = Normalization(SimpleNamespace(group_size=size, **(plain | options)))
    return lambda values, _: normalization(values)


here = "areal.utils.data.Normalization"
for values, ids, size in equal_sizes():
    record.add(f"{here} (group mean, group std)", "grpo", run(size), values, ids)
    biased = run(size, std_unbiased=False)
    record.add(f"{here} (group mean, biased group std)", "grpo", biased, values, ids, ddof=0)
    centred = run(size, std_level=None)
    record.add(f"{here} (group mean, no std)", "grpo", centred, values, ids, scale="none")
    others = run(size, std_level=None, mean_leave1out=True)
    record.add(f"{here} (leave-one-out mean, no std)", "rloo", others, values, ids)
one = [x[:1] for x in CONSTANT]
record.add(f"{here} (group mean, group std), group of one", "grpo", run(1), *one)
record.add(f"{here} (leave-one-out mean), group of one", "rloo", run(1, std_level=None, mean_leave1out=True), *one)
record.add(f"{here} (group mean, group std)", "grpo", run(3), *CONSTANT, residue=True)
record.add(
    f"{here} (group mean, group std), five rows in groups of two",
    "grpo",
    run(2),
    [1.0, 0.0, 0.0, 1.0, 1.0],
    [0, 0, 1, 1, 2],
    unlike="rows beyond the last full group keep mean 0 and standard deviation 0",
)
record.write(stubs)
