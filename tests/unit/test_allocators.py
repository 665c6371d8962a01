"""Allocators of libraries below are settled before they load, and a user's choice wins."""

import os
import subprocess
import sys

import pytest

from marketpipe.allocators import OPTIONS

_ASK = (
    "import os, marketpipe, pyarrow; from numpy._core.multiarray import _get_madvise_hugepage; "
    "print(pyarrow.default_memory_pool().backend_name, os.environ['_RJEM_MALLOC_CONF'], "
    "_get_madvise_hugepage())"
)
_RJEM = "narenas:2,dirty_decay_ms:0,muzzy_decay_ms:0"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({}, f"system {_RJEM} False"),
        ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, f"mimalloc {_RJEM} False"),
        ({"_RJEM_MALLOC_CONF": "narenas:1"}, "system narenas:1 False"),
        ({"NUMPY_MADVISE_HUGEPAGE": "1"}, f"system {_RJEM} True"),
    ],
)
def test_libraries_are_loaded_with_our_options_or_the_users(
    chosen: dict[str, str], said: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name not in OPTIONS} | chosen
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said
