"""Takes the bytes of numbers and instants as vendors write them.

Gives int64 nanos and ns, exactly, with a reason for each that cannot be had.
Never rounds, never goes through a float.
"""

from marketpipe.sources.numbers.columns import decimals, instants

__all__ = ["decimals", "instants"]
