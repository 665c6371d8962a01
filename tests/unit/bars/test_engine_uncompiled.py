"""The same cases with the kernel as plain Python: what it says must not depend on compiling."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="this is the uncompiled run")
@pytest.mark.parametrize(
    "names",
    [
        ("test_engine_life", "test_engine_sessions", "test_engine_watermarks"),
        ("test_engine_numbers", "test_recompute", "test_alpaca_table", "test_alpaca_bars"),
    ],
    ids=["life", "numbers"],
)
def test_engine_cases_hold_with_the_kernel_uncompiled(names: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(HERE / f"{name}.py") for name in names)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
