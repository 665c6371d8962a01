"""Allocators of libraries below are settled before they load, and a user's choice wins."""

import os
import subprocess
import sys

import pytest

from marketpipe.allocators import OPTIONS, c_library

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


_HEAPS = """
import marketpipe, ctypes, threading, numpy, pyarrow
threads = [threading.Thread(target=numpy.ones, args=(1000,)) for _ in range(3)]
for each in threads: each.start()
for each in threads: each.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(c_library() is None, reason="heaps are counted where the C library is glibc")
@pytest.mark.parametrize(
    ("chosen", "heaps"),
    [
        ({}, 1),
        ({"MALLOC_ARENA_MAX": "2"}, 2),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, 2),
    ],
)
def test_threads_share_one_heap_unless_the_user_wants_more(
    chosen: dict[str, str], heaps: int
) -> None:
    ours = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    env = {name: value for name, value in os.environ.items() if name not in ours} | chosen
    done = subprocess.run(
        [sys.executable, "-c", _HEAPS], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("Arena ") == heaps
