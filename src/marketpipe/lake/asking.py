"""What a read asks for, checked before any file is touched."""

from collections.abc import Iterable
from dataclasses import dataclass

from marketpipe.domain.symbols import MAX_SYMBOL_CHARS, is_valid_symbol
from marketpipe.errors import UsageError
from marketpipe.lake.instants import Instant, instant_ns
from marketpipe.lake.views import Knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a read is about.

    Attributes
    ----------
    symbols : each once, at least one
    start, end : ns since the epoch; inclusive, exclusive; None means open
    as_of : ns since the epoch, inclusive; None means now
    knowledge : by which time ``as_of`` counts
    """

    symbols: tuple[str, ...]
    start: int | None
    end: int | None
    as_of: int | None
    knowledge: Knowledge


def asked(
    symbols: str | Iterable[str],
    start: Instant | None,
    end: Instant | None,
    as_of: Instant | None,
    knowledge: Knowledge,
) -> Ask:
    """Read what the user typed.

    Raises
    ------
    UsageError
        If an instant, a symbol or ``knowledge`` cannot be read, or the range ends before it starts.
    """
    check_knowledge(knowledge)
    first = None if start is None else instant_ns(start, "start")
    last = None if end is None else instant_ns(end, "end")
    if first is not None and last is not None and last < first:
        raise UsageError(f"end: was '{end}', before start '{start}'; valid is start or later")
    return Ask(
        symbols=valid_symbols(symbols),
        start=first,
        end=last,
        as_of=None if as_of is None else instant_ns(as_of, "as_of"),
        knowledge=knowledge,
    )


def valid_symbols(symbols: str | Iterable[str]) -> tuple[str, ...]:
    """Return one or several symbols, each once.

    Raises
    ------
    UsageError
        If there is none, or one cannot be a symbol.
    """
    chosen = tuple(dict.fromkeys([symbols] if isinstance(symbols, str) else symbols))
    if not chosen:
        raise UsageError("symbols: were none; name at least one, as in 'AAPL' or ['AAPL', 'MSFT']")
    for symbol in chosen:
        if not isinstance(symbol, str) or not is_valid_symbol(symbol):
            raise UsageError(
                f"symbols: was {symbol!r}; valid are 1 to {MAX_SYMBOL_CHARS} characters of "
                "A-Z a-z 0-9 . / _ : = ^ -"
            )
    return chosen


def check_knowledge(knowledge: str) -> None:
    """Refuse another word than ``assumed`` and ``strict``.

    Raises
    ------
    UsageError
        If it is another.
    """
    if knowledge not in ("assumed", "strict"):
        raise UsageError(f"knowledge: was {knowledge!r}; valid are assumed, strict")
