"""What a process pays before its first line of work: processor seconds of imports, in units of `import torch`.

`pytest tests/benchmarks/test_start.py --benchmark-only`. User seconds of fresh processes, the least of a few: other
processes can only add to it.
"""

import os
import resource
import subprocess
import sys
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.conftest import ROOT

ROUNDS = 5
BARS = {
    **dict.fromkeys(["teacher", "train", "infer", "serving.predict", "serving.open_set"], 1.6),
    **dict.fromkeys(["autoencoder", "encode", "diffusion", "sample", "shards"], 2.5),
}


def user_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


@cache
def of_torch() -> float:
    return min(user_seconds("import torch") for _ in range(ROUNDS))


@pytest.mark.parametrize("module", BARS)
def test_imports(benchmark: BenchmarkFixture, module: str) -> None:
    seconds = [benchmark.pedantic(user_seconds, [f"import pipeline.{module}"])]
    seconds += [user_seconds(f"import pipeline.{module}") for _ in range(ROUNDS - 1)]
    ratio = min(seconds) / of_torch()
    benchmark.extra_info |= {"user seconds": round(min(seconds), 2), "of import torch": round(ratio, 2)}
    print(f"\n{module}: {benchmark.extra_info}")
    assert ratio <= BARS[module]
