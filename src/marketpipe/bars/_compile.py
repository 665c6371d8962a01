"""How the kernels are compiled: four decorators instead of eight options everywhere.

``_nrt=False``: kernels get arrays and make none, so there is nothing to count references of,
which took two thirds of the time. ``error_model``: integers divide without a test for zero.
``forceinline`` is inherited by what an inlined function calls unless it is said that it is not;
then every call is expanded in every caller, and compiling takes ten times as long.
"""

from typing import Any, Final

from numba import njit

_OPTIONS: Final[dict[str, Any]] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
}

# Only what Python calls needs code that unpacks Python's arguments.
_INNER: Final[dict[str, Any]] = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

entry = njit(**_OPTIONS, forceinline=False)
"""For what Python calls."""

inner = njit(**_INNER, forceinline=False)
"""For what only kernels call."""

inlined = njit(**_INNER, forceinline=True)
"""For small or hot functions, expanded where they are called, once compiled."""

pasted = njit(**_INNER, inline="always")
"""For a large function with one or two callers: expanded before it is compiled, never alone."""
