"""Fixtures of the suites. Run them with ``python -m bench``; ``pytest -c bench/pytest.ini bench`` works too."""

import pytest

from bench.measure import ROWS, Measure


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="small sizes: does everything run and agree?")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--quick")


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: object, quick: bool) -> Measure:
    return Measure(benchmark, request.config.stash[ROWS], quick=quick)
