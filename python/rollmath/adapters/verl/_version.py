"""Which verl this is, and whether the adapter knows it."""

from __future__ import annotations

import importlib
from types import ModuleType

#: Release lines whose registries, call sites and signatures are those that the adapter expects.
SUPPORTED = ("0.9",)
#: The version that the tests run beside.
TESTED = "0.9.1"


def verl_version(who: str, *, any_version: bool = False) -> str:
    """The version of the verl that is installed, if it is a supported one.

    Raises:
        ModuleNotFoundError: there is no verl.
        RuntimeError: an unsupported version, unless ``any_version``.
    """
    version = str(load(who, "verl").__version__)
    line = ".".join(version.split(".")[:2])
    if line not in SUPPORTED and not any_version:
        msg = (
            f"{who}(): verl {version} is not supported: supported are {', '.join(f'{x}.x' for x in SUPPORTED)}, tested "
            f"with {TESTED}. Install verl=={TESTED}, or pass any_version=True to try it with this one"
        )
        raise RuntimeError(msg)
    return version


def load(who: str, module: str) -> ModuleType:
    """A module of verl.

    Raises:
        ModuleNotFoundError: there is no verl; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != "verl":
            raise
        msg = f"{who}(): verl is not installed; pip install verl=={TESTED}"
        raise ModuleNotFoundError(msg, name="verl") from None
