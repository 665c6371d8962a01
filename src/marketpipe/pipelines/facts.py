"""What a feed says of itself in its control records: how it is read, and what is built of it."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CONTROL
from marketpipe.errors import UsageError

Facts: TypeAlias = Mapping[str, Any]


def with_facts(batch: pa.RecordBatch, facts: Facts) -> pa.RecordBatch:
    """Add facts to the payloads of control records, which are of our own making."""
    rows = np.flatnonzero(np.asarray(pc.equal(batch["kind"], CONTROL)))
    if not len(rows):
        return batch
    payloads = batch["payload"].to_pylist()
    lengths = batch["frame_len"].to_numpy().copy()
    for row in rows.tolist():
        payloads[row] = json.dumps({**json.loads(payloads[row]), **facts}).encode()
        lengths[row] = len(payloads[row])
    columns = {name: batch[name] for name in batch.schema.names}
    columns |= {"payload": pa.array(payloads, pa.binary()), "frame_len": pa.array(lengths)}
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def check_settings(known: Facts, facts: Facts, journal_id: str) -> None:
    """Refuse settings that are not those of the records that a journal has.

    Raises
    ------
    UsageError
        Which names the first setting that differs.
    """
    for name, value in facts["settings"].items():
        if known["settings"].get(name) != value:
            raise UsageError(
                f"{name}: was '{value}'; journal {journal_id} was streamed with "
                f"'{known['settings'].get(name)}', and bars of both would not agree; use "
                "that, or another --data-dir"
            )
