"""Takes ticks and clock times; gives bars, their events, their state.

Never does I/O, reads a clock, or holds a float.
"""

from marketpipe.bars.engine import BarEngine
from marketpipe.bars.events import BarEvents, bars_of
from marketpipe.bars.repair import Recompute
from marketpipe.bars.rollup import roll_up
from marketpipe.bars.state import EngineState

__all__ = ["BarEngine", "BarEvents", "EngineState", "Recompute", "bars_of", "roll_up"]
