"""Fuzz both edges guided by coverage, with the requests and the judge of `test_edge_fuzz`; run by hand.

    pip install atheris                                                       # it has wheels for Python 3.11 and 3.12
    python -m tests.fuzz_edge -len_control=0 -max_total_time=300 [CORPUS]     # libFuzzer's options

A request that fails is left in a file `crash-...`; give it as an argument to see it again.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

from hypothesis import HealthCheck, given, settings


def main() -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["cueapi", "cueapi_tasks"]):  # so ours are imported only here
        edge: Any = importlib.import_module("tests.test_edge_fuzz")
        memory: Any = importlib.import_module("cueapi_tasks.run.ledger.memory")
    logging.disable()  # refusals by the thousand
    cue = edge.CueTasks("billing", webhook_secret=edge.SECRET)
    with edge.receiver_of(cue, memory.MemoryLedger(), edge.Clock(), None) as receiver:
        victim = edge.Victim(cue, receiver)

        @settings(database=None, suppress_health_check=list(HealthCheck))
        @given(sent=edge.requests())
        def judged(sent: Any) -> None:
            edge.check(victim, sent)

        entry: Any = judged  # to which hypothesis adds what fuzzers want

        def one_input(data: bytes) -> None:
            entry.hypothesis.fuzz_one_input(data)  # and not its answer, which a fuzzer takes for an error

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
