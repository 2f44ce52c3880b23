"""Processes that talk to each other, forked so that torch is imported once."""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import wait


def run(work: Callable[..., None], world: int, *arguments: object) -> None:
    """``work(rank, world, *arguments)`` in each process. If one fails, the others, which wait for it, are ended."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank, world, *arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    while running := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in running])
        if any(process.exitcode for process in processes):
            for process in running:
                process.terminate()
    if any(process.exitcode for process in processes):
        sys.exit(f"exit codes {[process.exitcode for process in processes]} of {world} processes")
