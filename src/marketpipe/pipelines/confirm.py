"""Asking the independent side whether it agrees."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from marketpipe.domain.sessions import SessionTable
from marketpipe.normalize.dates import NEW_YORK
from marketpipe.verify.confirm import confirm
from marketpipe.verify.recompute import recompute

if TYPE_CHECKING:
    from marketpipe.pipelines.files import ReplayJob
    from marketpipe.pipelines.replay import Replay


def confirm_file(job: "ReplayJob", run: "Replay") -> tuple[bool, str]:
    """Recompute a replay's bars from its file; return whether all agree, and the words for it."""
    path = Path(job.csv) if job.csv is not None else job.parquet
    assert path is not None  # noqa: S101 - the caller refuses other inputs
    table = run.engine.grid.table
    own_days = run.settings.rule_set.anchoring == "ny_day" and job.price == "trade"
    again = recompute(
        path,
        [str(tf) for tf in sorted(run.settings.timeframes)],
        price=job.price,
        rules=run.settings.rule_set.name,
        symbols=sorted(job.symbols) if job.symbols is not None else (),
        segments=None if table is None or own_days else segments_of(table),
        id_dates="new_york" if job.calendar == NEW_YORK and job.price == "trade" else None,
        source=job.source,
        feed=job.feed,
    )
    result = confirm(run.bars(), again.bars)
    if result.ok or (not run.ticks and not len(again.bars)):
        cells = result.matched_count * len(result.fields)
        return True, f"{result.matched_count:,} bars, {cells:,} cells"
    first = next(iter((*result.differing, *result.missing, *result.extra)), "")
    return False, (
        f"{result.differing_count:,} differ, {result.missing_count:,} missing, "
        f"{result.extra_count:,} extra; first: {first}"
    )


def segments_of(table: SessionTable) -> pa.Table:
    """Return a session table as the plain rows that the independent side reads."""
    at = table.seg_session
    return pa.table(
        {
            "seg_open": table.seg_open,
            "seg_close": table.seg_close,
            "session_date": table.date[at],
            "session_open": table.open_ns[at],
            "session_close": table.close_ns[at],
            "auction_end": table.auction_end_ns[at],
        }
    )
