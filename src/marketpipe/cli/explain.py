"""`marketpipe explain`."""

from typing import Annotated

import typer

from marketpipe.cli.common import settings

_RAW_SHOWN = 300
_LOST = {
    "trades": "what each trade set is not known any more; the revisions stand as they were made",
    "corrections": "cancels and corrections of it are not known any more",
    "raw": "the bytes of its messages are gone",
}


def explain(
    ctx: typer.Context,
    symbol: Annotated[str, typer.Argument(help="Such as AAPL.")],
    timeframe: Annotated[str, typer.Argument(help="Such as 1m.")],
    ts: Annotated[str, typer.Argument(help="Any time within the bar: 2026-01-05T15:00Z.")],
    source: Annotated[str | None, typer.Option(help="Source of the series.")] = None,
    feed: Annotated[str | None, typer.Option(help="Feed of the series.")] = None,
) -> None:
    """Show why a bar says what it says: revisions, trades used and left out, and the raw bytes.

    Example: marketpipe explain AAPL 1m 2026-01-05T15:00Z
    """
    from marketpipe.access import folder_of
    from marketpipe.domain.units import format_ns
    from marketpipe.lake import instant_ns
    from marketpipe.pipelines.explain import explain as explain_bar

    read = settings(ctx)
    found = explain_bar(
        folder_of(read),
        symbol,
        timeframe,
        instant_ns(ts, "ts"),
        priority=read.series.priority,
        source=source,
        feed=feed,
    )
    rows = found.revisions.to_pylist()
    last = rows[-1]
    print(
        f"bar        {symbol}@{timeframe} {format_ns(last['ts_open'])} to "
        f"{format_ns(last['ts_close'])}"
    )
    print(
        f"series     {last['source']}/{last['feed']} · {last['price_type']} · rules "
        f"{last['rule_set']} · session {last['session']}"
    )
    for row in rows:
        print(
            f"revision {row['revision']} {row['cause']}, known {format_ns(row['known_at'])}: "
            f"{_values(row)}"
        )
    for table, floor in found.dropped.items():
        print(f"dropped    {table} of days before {floor}: {_LOST[table]}")
    for e in found.evidence:
        mark = "+" if e.used else "-" if e.known else "?"
        print(
            f"{mark} {format_ns(e.ts_event)} {e.kind} {e.price} × {e.size} id {e.trade_id or '-'} "
            f"[{e.conditions}] {e.decision}"
        )
        raw = e.raw[:_RAW_SHOWN].decode("utf-8", "backslashreplace")
        print(f"    {e.journal_id}:{e.offset} {raw}")


def _values(row: dict[str, object]) -> str:
    if row["coverage"] == "void":
        return "void"
    prices = (f"{name} {row[name]:f}" for name in ("open", "high", "low", "close", "volume"))
    return f"{', '.join(prices)}, {row['trade_count']} trades"
