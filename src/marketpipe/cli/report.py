"""How the result of a replay reads on a terminal or in a log."""

from typing import TYPE_CHECKING

from marketpipe.domain.units import format_ns
from marketpipe.pipelines.files import ReplayReport

if TYPE_CHECKING:
    from marketpipe.pipelines.load import LoadReport


def print_report(report: ReplayReport) -> None:
    """Print counts, findings, the root and the digests, one fact a line."""
    print(f"input      {report.described}")
    print(
        f"settings   calendar {report.calendar} · session {report.session} · "
        f"rules {report.rules} · price {report.price}"
    )
    span = ""
    if report.first_ns is not None and report.last_ns is not None:
        span = f", {format_ns(report.first_ns)} to {format_ns(report.last_ns)}"
    print(f"ticks      {report.ticks:,} of {report.rows:,} rows{span}")
    bars = " · ".join(f"{tf} {count:,}" for tf, count in report.bars.items())
    print(f"bars       {bars}")
    if report.revisions is not None:
        print(f"revisions  {report.revisions:,}")
    print_findings(report)
    print(f"root       {report.root}")
    if report.history_root is not None:
        print(f"history    {report.history_root}")
    if report.output is not None:
        print(f"output     {report.output}  {report.digest}")
    if report.confirmed is not None:
        word = "agrees" if report.confirmed else "DIFFERS"
        print(f"confirmed  the independent recomputation in SQL {word}: {report.confirmation}")


def print_findings(report: ReplayReport) -> None:
    """Print each finding with its first places."""
    if not report.findings:
        print("findings   none")
        return
    head = "findings  "
    for entry in report.findings.entries:
        rows = ", ".join(str(e.row) for e in entry.examples if e.row)
        where = (
            f" (rows {rows}{', …' if entry.count > len(entry.examples) else ''})" if rows else ""
        )
        print(f"{head} {entry.code} {entry.count:,}{where}")
        head = " " * len(head)


def stored_words(load: "LoadReport") -> str:
    """Say in one line what a load came to."""
    if load.already:
        return "this very file was loaded before; nothing was added"
    return (
        f"{load.new:,} new trades, {load.restated:,} restated, {load.known:,} known before; "
        f"{load.bars:,} bars, {load.revisions:,} revisions of bars kept before"
    )
