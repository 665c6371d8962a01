"""`BarComparator`: a reference file of bars against a generated one, exactly, within tolerances."""

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import duckdb

from marketpipe.errors import InputError, UsageError
from marketpipe.verify.barfile import KEY_TEXTS, BarFile, load_bar_file
from marketpipe.verify.comparison import LISTED, Comparison, compare_tables

_PRICES: Final = ("open", "high", "low", "close")
_EXACT: Final = ("ts_close", "trade_count")
_SUMS: Final = ("volume", "notional")
_LIMIT: Final = Decimal(10) ** 9


class BarComparator:
    """Compare bars in two CSV files.

    Either file may be a canonical bar CSV (``symbol,timeframe,ts_open,…``) or a TradingView
    export (``time,open,high,low,close,Volume``); what only one of them has is not compared.

    Parameters
    ----------
    tolerance : largest allowed absolute difference of a price, as text or Decimal
    volume_tolerance : the same for volume and notional

    Raises
    ------
    UsageError
        If a tolerance is no number, negative, or 1e9 and more.
    """

    def __init__(
        self, tolerance: str | Decimal = "1e-6", volume_tolerance: str | Decimal = "0"
    ) -> None:
        self._tolerance = _read_tolerance("tolerance", tolerance)
        self._volume_tolerance = _read_tolerance("volume_tolerance", volume_tolerance)

    def compare(
        self,
        reference: str | os.PathLike[str],
        candidate: str | os.PathLike[str],
        *,
        symbol: str | None = None,
        timeframe: str | None = None,
        listed: int = LISTED,
    ) -> Comparison:
        """Compare two files.

        Parameters
        ----------
        reference, candidate : paths
        symbol, timeframe : of a file that does not say; by default what the other file holds,
            if that is one
        listed : how many differences of each kind to list; all are counted

        Raises
        ------
        InputError
            If a file cannot be read as bars, holds a bar twice, or does not say of which symbol
            and timeframe its bars are. The message names the line and column.
        """
        given = {"symbol": symbol, "timeframe": timeframe}
        with duckdb.connect() as connection:
            files = (
                load_bar_file(connection, Path(reference), "reference"),
                load_bar_file(connection, Path(candidate), "candidate"),
            )
            names = _key_names(files, given)
            for file in files:
                for name in set(names) - set(file.texts):
                    file.set_text(name, given.get(name) or _single(files, file, name))
                file.refuse_doubles(names)
            tolerances = {f: self._limit(f) for f in files[0].values if f in files[1].values}
            return compare_tables(
                connection,
                files[0].table,
                files[1].table,
                names=names,
                tolerances=tolerances,
                listed=listed,
            )

    def _limit(self, field: str) -> Decimal:
        if field in _EXACT:
            return Decimal(0)
        return self._volume_tolerance if field in _SUMS else self._tolerance


def _read_tolerance(name: str, value: str | Decimal) -> Decimal:
    try:
        limit = Decimal(value)
    except InvalidOperation:
        limit = Decimal("NaN")
    if not limit.is_finite() or not 0 <= limit < _LIMIT:
        raise UsageError(f"{name} was {value!r}; valid is a number from 0 up to 1e9, such as 1e-6")
    return limit


def _key_names(files: tuple[BarFile, BarFile], given: dict[str, str | None]) -> tuple[str, ...]:
    """Name the key columns: symbol and timeframe, and what else both files have."""
    both = [name for name in KEY_TEXTS if all(name in file.texts for file in files)]
    for file in files:
        for name in (n for n in file.texts if n not in both and n not in ("symbol", "timeframe")):
            if len(file.distinct(name)) > 1:
                raise InputError(
                    f"{file.path.name}: holds several of column {name}, which the other file "
                    "lacks; export one series without history"
                )
    if any("symbol" in f.texts or "timeframe" in f.texts for f in files) or any(given.values()):
        both += [name for name in ("symbol", "timeframe") if name not in both]
    return tuple(name for name in KEY_TEXTS if name in both)


def _single(files: tuple[BarFile, BarFile], lacking: BarFile, name: str) -> str:
    other = files[1] if lacking is files[0] else files[0]
    found = other.distinct(name) if name in other.texts else []
    if len(found) == 1:
        return found[0]
    held = f"the other file holds {len(found)}: {', '.join(found[:5])}" if found else "none says it"
    raise InputError(
        f"{lacking.path.name}: has no column {name}, and {held}; name the {name} of its bars"
    )
