"""Which trades may set what, read afresh from the vendor's table and written as SQL.

Source: Alpaca, "How are bars aggregated?", as in the project's notes on vendors. This is
a second, separate reading: it shares nothing with the rule tables of the normalizer.
"""

from typing import Final

# Columns: code, tapes ("" is every tape), scope (m minutes, d days, md both), then what a trade
# may set: open and close (0 no, 1 only as the first of the bar, 2 yes), high and low, volume.
_YES: Final = (2, 1, 1)
_VOLUME_ONLY: Final = (0, 0, 1)
_FIRST_ONLY: Final = (1, 1, 1)
_NOTHING: Final = (0, 0, 0)
_PRICE_ONLY: Final = (2, 1, 0)

_ALPACA: Final = [
    *((code, "CO", "md", _YES) for code in ("@",)),
    *((code, "C", "md", _YES) for code in ("A", "B", "D", "Y")),
    *((code, "AB", "md", _YES) for code in ("E",)),
    *((code, "", "md", _YES) for code in ("F", "K", "L", "O", "X", "5", "6")),
    ("T", "", "m", _YES),
    ("B", "AB", "md", _VOLUME_ONLY),
    *((code, "", "md", _VOLUME_ONLY) for code in ("C", "H", "I", "N", "R", "U", "V", "7")),
    ("W", "CO", "md", _VOLUME_ONLY),
    ("T", "", "d", _VOLUME_ONLY),
    *((code, "", "m", _VOLUME_ONLY) for code in ("G", "P", "Z", "4")),
    ("G", "C", "d", _FIRST_ONLY),
    *((code, "", "d", _FIRST_ONLY) for code in ("P", "Z", "4")),
    *((code, "", "md", _NOTHING) for code in ("M", "Q")),
    ("9", "", "m", _NOTHING),
    ("9", "", "d", _PRICE_ONLY),
]

PRIMARY_VENUES: Final = {"A": "'N'", "B": "'P', 'A', 'Z'", "C": "'Q'"}
"""Venues whose auctions are the primary's, by tape, as a list in SQL."""

CLOSING_AUCTION: Final = "6"
OFFICIAL_OPEN: Final = "Q"
OFFICIAL_CLOSE: Final = "M"


def rules_query(rule_set: str, scope: str) -> str:
    """Return SQL that maps each (conditions, tape) of ``parsed`` to what its trades may set.

    Result columns: conditions, tape, last (0, 1, 2), high_low, volume (0, 1). Of several
    conditions the strictest reading wins, column by column; of one that reads differently on
    different tapes, when the tape is unknown, too. A code that is not in the table sets nothing.

    Parameters
    ----------
    rule_set : ``plain`` or ``alpaca-v1``
    scope : ``m`` for bars shorter than a day, ``d`` for days
    """
    combos = "SELECT DISTINCT conditions, tape FROM parsed"
    if rule_set == "plain":
        return f"SELECT conditions, tape, 2 AS last, 1 AS high_low, 1 AS volume FROM ({combos})"  # noqa: S608
    values = ", ".join(
        f"('{code}', '{tapes}', {last}, {high_low}, {volume})"
        for code, tapes, scopes, (last, high_low, volume) in _ALPACA
        if scope in scopes
    )
    return f"""
        WITH rules(code, tapes, last, high_low, volume) AS (VALUES {values}),
        words AS (
            SELECT conditions, tape,
                   unnest(list_filter(string_split(conditions, ' '), lambda w: w <> '')) AS code
            FROM ({combos})
        ),
        readings AS (
            SELECT w.conditions, w.tape, coalesce(r.last, 0) AS last,
                   coalesce(r.high_low, 0) AS high_low, coalesce(r.volume, 0) AS volume
            FROM words w LEFT JOIN rules r
              ON r.code = w.code
             AND (r.tapes = '' OR w.tape = '' OR list_contains(string_split(r.tapes, ''), w.tape))
        )
        SELECT c.conditions, c.tape, coalesce(min(r.last), 2) AS last,
               coalesce(min(r.high_low), 1) AS high_low, coalesce(min(r.volume), 1) AS volume
        FROM ({combos}) c LEFT JOIN readings r USING (conditions, tape)
        GROUP BY ALL
    """  # noqa: S608


def primary_print(code: str) -> str:
    """Return the SQL condition for a print of the primary venue with a condition code.

    What is not known of tape and venue does not speak against it.
    """
    known = " OR ".join(
        f"(tape IN ('', '{tape}') AND (venue = '' OR venue IN ({venues})))"
        for tape, venues in PRIMARY_VENUES.items()
    )
    return f"(list_contains(string_split(conditions, ' '), '{code}') AND ({known}))"
