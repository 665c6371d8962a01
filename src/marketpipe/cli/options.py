"""Options that several commands have, and the words that they take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class Knowledge(StrEnum):
    """By which time something was known."""

    ASSUMED = "assumed"
    STRICT = "strict"


class Session(StrEnum):
    """Which part of a day."""

    CONTINUOUS = "continuous"
    REGULAR = "regular"
    EXTENDED = "extended"


class Price(StrEnum):
    """Bars of what."""

    TRADE = "trade"
    BID = "bid"
    ASK = "ask"
    MID = "mid"


DataDir: TypeAlias = Annotated[
    Path, typer.Option("--data-dir", help="Folder of what MarketPipe keeps.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Output: TypeAlias = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")]
AsOf: TypeAlias = Annotated[
    str | None, typer.Option("--as-of", help="As known at this time, such as 2026-01-05T15:00Z.")
]
KnownBy: TypeAlias = Annotated[
    Knowledge, typer.Option("--knowledge", help="Known to the market, or received by us.")
]
Symbols: TypeAlias = Annotated[str | None, typer.Option(help="Only these; default: all.")]
Journal: TypeAlias = Annotated[
    str | None, typer.Option(help="Of this journal's feed; default: of every one.")
]
