"""What a comparison of two sets of bars found, and the join that finds it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import duckdb

from marketpipe.domain.units import format_ns
from marketpipe.verify.sqltext import sql_name

LISTED: Final = 20
"""How many differences of each kind are listed by default; all are counted."""

_WIDE: Final = Context(prec=80)


class BarKey(NamedTuple):
    """A bar's key: the text columns that were compared on, and its open in ns since the epoch."""

    names: tuple[str, ...]
    ts_open: int

    def __str__(self) -> str:
        return " ".join((*self.names, format_ns(self.ts_open)))


class CellDifference(NamedTuple):
    """One value that differs; ``delta`` is candidate - reference, None if one is absent.

    Times (``ts_close``) and counts are whole numbers.
    """

    bar: BarKey
    field: str
    reference: Decimal | None
    candidate: Decimal | None

    @property
    def delta(self) -> Decimal | None:
        """Candidate minus reference, exact."""
        if self.reference is None or self.candidate is None:
            return None
        return _WIDE.subtract(self.candidate, self.reference)

    def __str__(self) -> str:
        reference, candidate, delta = (
            "(none)" if value is None else _plain(value)
            for value in (self.reference, self.candidate, self.delta)
        )
        return f"{self.bar} {self.field}: reference {reference}, candidate {candidate}, {delta}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found; lists hold the first differences in the order of their keys.

    Attributes
    ----------
    fields : columns that were compared: those that both sides have
    matched_count : bars on both sides, all compared values within tolerance
    differing_count : bars on both sides with a value outside of it
    differing_cell_count, differing : values outside of tolerance
    missing_count, missing : bars in the reference only
    extra_count, extra : bars in the candidate only
    """

    fields: tuple[str, ...]
    matched_count: int
    differing_count: int
    differing_cell_count: int
    differing: tuple[CellDifference, ...]
    missing_count: int
    missing: tuple[BarKey, ...]
    extra_count: int
    extra: tuple[BarKey, ...]

    @property
    def ok(self) -> bool:
        """Whether both sides hold the same bars, at least one, within tolerance."""
        return self.matched_count > 0 and not (
            self.differing_count or self.missing_count or self.extra_count
        )

    def lines(self) -> list[str]:
        """Describe the result for people, a summary first."""
        summary = (
            f"{self.matched_count} bars match, {self.differing_count} differ "
            f"({self.differing_cell_count} values), {self.missing_count} missing, "
            f"{self.extra_count} extra; compared {', '.join(self.fields)}"
        )
        out = [summary, *(f"differs: {cell}" for cell in self.differing)]
        out += _more(self.differing_cell_count - len(self.differing), "differing values")
        out += [f"missing: {bar}" for bar in self.missing]
        out += _more(self.missing_count - len(self.missing), "missing bars")
        out += [f"extra: {bar}" for bar in self.extra]
        return out + _more(self.extra_count - len(self.extra), "extra bars")


def compare_tables(
    connection: duckdb.DuckDBPyConnection,
    reference: str,
    candidate: str,
    *,
    names: Sequence[str],
    tolerances: Mapping[str, Decimal],
    listed: int = LISTED,
) -> Comparison:
    """Compare two tables of the connection, cell by cell.

    Parameters
    ----------
    reference, candidate : tables with the text columns ``names``, ts_open (BIGINT) and the
        compared columns (integers or decimals); (names, ts_open) unique in each
    tolerances : largest absolute difference allowed, by compared column
    listed : how many differences of each kind to list
    """
    keys = [*names, "ts_open"]
    using = ", ".join(sql_name(key) for key in keys)
    aligned = ", ".join(f"r.{sql_name(f)} AS r_{f}, c.{sql_name(f)} AS c_{f}" for f in tolerances)
    bad = {f: _outside(f, limit) for f, limit in tolerances.items()}
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE joined AS SELECT *, {_sum(bad.values())} AS bad_cells "  # noqa: S608
        f"FROM (SELECT {using}, {aligned} FROM {reference} r JOIN {candidate} c USING ({using}))"
    )
    matched, differing, cells = connection.execute(
        "SELECT count(*) FILTER (bad_cells = 0), count(*) FILTER (bad_cells > 0), "
        "coalesce(sum(bad_cells), 0)::BIGINT FROM joined"
    ).fetchall()[0]
    rows = connection.execute(
        f"SELECT * FROM joined WHERE bad_cells > 0 ORDER BY {using} LIMIT {listed}"  # noqa: S608
    )
    header = [column[0] for column in rows.description or ()]
    found = [
        CellDifference(_key(row, names), field, row[f"r_{field}"], row[f"c_{field}"])
        for row in (_exact(dict(zip(header, values, strict=True))) for values in rows.fetchall())
        for field, limit in tolerances.items()
        if _differs(row[f"r_{field}"], row[f"c_{field}"], limit)
    ]
    missing_count, missing = _only_in(connection, reference, candidate, using, names, listed)
    extra_count, extra = _only_in(connection, candidate, reference, using, names, listed)
    return Comparison(
        fields=tuple(tolerances),
        matched_count=matched,
        differing_count=differing,
        differing_cell_count=cells,
        differing=tuple(found[:listed]),
        missing_count=missing_count,
        missing=missing,
        extra_count=extra_count,
        extra=extra,
    )


def _only_in(
    connection: duckdb.DuckDBPyConnection,
    here: str,
    there: str,
    using: str,
    names: Sequence[str],
    listed: int,
) -> tuple[int, tuple[BarKey, ...]]:
    source = f"FROM {here} h ANTI JOIN {there} t USING ({using})"
    count = connection.execute(f"SELECT count(*) {source}").fetchall()[0][0]
    rows = connection.execute(f"SELECT {using} {source} ORDER BY {using} LIMIT {listed}").fetchall()
    columns = (*names, "ts_open")
    return count, tuple(_key(dict(zip(columns, row, strict=True)), names) for row in rows)


def _outside(field: str, limit: Decimal) -> str:
    reference, candidate = f"r_{field}", f"c_{field}"
    if not limit:
        return f"({reference} IS DISTINCT FROM {candidate})"
    return (
        f"(({reference} IS NULL) <> ({candidate} IS NULL) "
        f"OR coalesce(abs({reference} - {candidate}) > {_plain(limit)}::DECIMAL(38, 18), false))"
    )


def _differs(reference: Decimal | None, candidate: Decimal | None, limit: Decimal) -> bool:
    if reference is None or candidate is None:
        return reference is not candidate
    return abs(_WIDE.subtract(candidate, reference)) > limit


def _sum(conditions: Iterable[str]) -> str:
    return " + ".join(f"{c}::INTEGER" for c in conditions)


def _exact(row: dict[str, Any]) -> dict[str, Any]:
    return {k: Decimal(v) if k[:2] in ("r_", "c_") and v is not None else v for k, v in row.items()}


def _key(row: Mapping[str, object], names: Sequence[str]) -> BarKey:
    return BarKey(tuple(str(row[name]) for name in names), int(str(row["ts_open"])))


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _more(count: int, what: str) -> list[str]:
    return [f"… and {count} more {what}"] if count > 0 else []
