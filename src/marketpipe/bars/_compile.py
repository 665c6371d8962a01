"""How the kernels are compiled: three decorators instead of eight options everywhere.

``_nrt=False``: kernels get arrays and make none, so there is nothing to count references of,
which took two thirds of the time. ``error_model``: integers divide without a test for zero.
``forceinline`` is inherited by what an inlined function calls unless it is said that it is not;
then every call is expanded in every caller, and compiling takes ten times as long. No
``cfunc`` wrapper: only C would call it.
"""

from typing import Any, Final

from numba import njit

_OPTIONS: Final[dict[str, Any]] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cfunc_wrapper": True,
}

entry = njit(**_OPTIONS, forceinline=False)
"""For what Python calls, and for large functions that kernels call now and then."""

inlined = njit(**_OPTIONS, forceinline=True)
"""For small or hot functions, expanded where they are called, once compiled."""

pasted = njit(**_OPTIONS, inline="always")
"""For a large function with one or two callers: expanded before it is compiled, never alone."""
