"""Which symbol an instrument id stood for on a day, as the metadata of a DBN file has it."""

from datetime import date
from typing import Any

import numpy as np

from marketpipe.domain.batches import I64
from marketpipe.domain.units import DAY_NS

_EPOCH = date(1970, 1, 1)
_DAY_BITS = 20


class SymbolMap:
    """Symbols by instrument id and UTC day of ``ts_recv``, start inclusive, end exclusive.

    Parameters
    ----------
    metadata : a ``databento_dbn.Metadata``
    """

    def __init__(self, metadata: Any) -> None:
        by_id = str(metadata.stype_in) == "instrument_id"
        self._spans: dict[str, list[tuple[int, int, str]]] = {}
        for key, spans in metadata.mappings.items():
            for span in spans:
                instrument, symbol = (key, span["symbol"]) if by_id else (span["symbol"], key)
                first, last = ((span[name] - _EPOCH).days for name in ("start_date", "end_date"))
                self._spans.setdefault(instrument, []).append((first, last, symbol))

    def symbols(self, instrument: I64, ts_recv: I64) -> tuple[list[str], I64]:
        """Return the distinct symbols, and for each record which of them is its own.

        An id without a mapping for the day stands for itself.
        """
        keys = (instrument << _DAY_BITS) | (np.maximum(ts_recv, 0) // DAY_NS)
        distinct, back = np.unique(keys, return_inverse=True)
        mask = (1 << _DAY_BITS) - 1
        return [self._find(key >> _DAY_BITS, key & mask) for key in distinct.tolist()], back

    def _find(self, instrument: int, day: int) -> str:
        name = str(instrument)
        for first, last, symbol in self._spans.get(name, ()):
            if first <= day < last:
                return symbol
        return name
