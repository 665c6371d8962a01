"""Tables in someone else's program, on their way into the engine."""

from typing import Protocol, TypeAlias

import pyarrow as pa

from marketpipe.domain.findings import Findings
from marketpipe.domain.ticks import Ticks
from marketpipe.normalize.ruleset import RuleSet


class _Frame(Protocol):
    def to_arrow(self) -> pa.Table: ...


Columnar: TypeAlias = pa.Table | pa.RecordBatch | _Frame


class TickReader:
    """Stub replaced below."""

    findings = Findings

    def __init__(self, rule_set: RuleSet, price_type: str) -> None: ...

    def read(self, table: Columnar) -> Ticks: ...
