"""Flags of a batch's trades under a rule set, at one look-up per row."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import Dictionaries, TradeBatch
from marketpipe.domain.findings import EXAMPLES_KEPT, Example, Findings
from marketpipe.normalize.codetable import CodeTable
from marketpipe.normalize.ruleset import RuleSet, Verdict

U16: TypeAlias = npt.NDArray[np.uint16]
Mask: TypeAlias = npt.NDArray[np.bool_]

_UNKNOWN: Final = 1 << 16
_MISSING_TAPE: Final = 1 << 17
_NO_NAMES: Final = Dictionaries(streams=())


class ConditionFlags:
    """Judges combinations of conditions, tape and venue once each, then gathers."""

    def __init__(self, rule_set: RuleSet) -> None:
        self._rule_set = rule_set
        self._regular = rule_set.flags_for("")
        self._names = _NO_NAMES
        self._table = CodeTable(self._compute)

    def of(self, batch: TradeBatch) -> npt.NDArray[np.int32] | None:
        """Judge each row; None if the batch has no conditions, so that all rows are regular."""
        if batch.conditions is None:
            return None
        self._names = names = batch.dictionaries
        return self._table.gather(
            (batch.conditions, batch.tape, batch.venue),
            (names.conditions, names.tapes, names.venues),
        )

    def flags(self, judged: npt.NDArray[np.int32] | None, count: int) -> U16:
        """Take the bits of `domain.ticks` from what `of` returned."""
        if judged is None:
            return np.full(count, self._regular, np.uint16)
        return judged.astype(np.uint16)

    def findings(
        self, batch: TradeBatch, judged: npt.NDArray[np.int32] | None, admitted: Mask | None
    ) -> Findings:
        """Count admitted trades whose conditions are unknown or need the absent tape."""
        if judged is None or not judged.size or judged.max() < _UNKNOWN:
            return Findings()
        parts = []
        for code, mark in (("unknown_condition", _UNKNOWN), ("missing_tape", _MISSING_TAPE)):
            hit = judged & mark != 0
            if admitted is not None:
                hit &= admitted
            rows = np.flatnonzero(hit)
            examples = [self._example(batch, int(i), code) for i in rows[:EXAMPLES_KEPT]]
            parts.append(Findings.of(code, len(rows), examples))
        return Findings.merge(parts)

    def _compute(self, conditions: int, tape: int, venue: int) -> int:
        names = self._names
        verdict = self._rule_set.judge(
            names.conditions[conditions], names.tapes[tape], names.venues[venue]
        )
        marks = _UNKNOWN if verdict.unknown else 0
        return verdict.flags | marks | (_MISSING_TAPE if verdict.missing_tape else 0)

    def _example(self, batch: TradeBatch, position: int, code: str) -> Example:
        names = batch.dictionaries
        conditions, tape = (
            words[int(column[position])] if column is not None else ""
            for words, column in ((names.conditions, batch.conditions), (names.tapes, batch.tape))
        )
        verdict: Verdict = self._rule_set.judge(conditions, tape)
        codes = verdict.unknown if code == "unknown_condition" else verdict.missing_tape
        detail = f"{' '.join(codes)!r} of {conditions!r} on tape {tape!r}"
        return Example(int(batch.row[position]), "conditions", detail)
