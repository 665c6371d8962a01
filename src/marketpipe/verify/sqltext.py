"""SQL macros that read text strictly: decimals and instants, exact or null, never rounded."""

from typing import Final

MACROS: Final = r"""
CREATE MACRO is_number(s) AS
    regexp_full_match(s, '[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?');

CREATE MACRO number_parts(s) AS
    regexp_extract(s, '^[+-]?([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?$', ['w', 'f', 'e']);

-- An exponent; of one too long for an integer only the sign matters.
CREATE MACRO exponent_of(e) AS
    coalesce(TRY_CAST(e AS INTEGER)::BIGINT,
             CASE WHEN e = '' THEN 0 WHEN e LIKE '-%' THEN -1000000000 ELSE 1000000000 END);

CREATE MACRO places_of(p) AS
    CASE WHEN rtrim(p.f, '0') <> '' THEN length(rtrim(p.f, '0')) - exponent_of(p.e)
         WHEN rtrim(p.w, '0') <> ''
            THEN length(rtrim(p.w, '0')) - length(p.w) - exponent_of(p.e)
         ELSE 0 END;

-- How many decimals a number needs; trailing zeros do not count.
CREATE MACRO decimal_places(s) AS
    CASE WHEN regexp_full_match(s, '[0-9]{1,9}(\.[0-9]{0,9})?') THEN 0
         ELSE places_of(number_parts(s)) END;

-- A number below 1e18 with at most 18 decimals; else null. The first case is the usual one.
CREATE MACRO exact_decimal(s) AS
    CASE WHEN regexp_full_match(s, '[0-9]{1,17}(\.[0-9]{0,18})?')
            THEN TRY_CAST(s AS DECIMAL(38, 18))
         WHEN is_number(s) AND places_of(number_parts(s)) <= 18
              AND abs(TRY_CAST(s AS DECIMAL(38, 18))) < 1000000000000000000
            THEN TRY_CAST(s AS DECIMAL(38, 18)) END;

CREATE MACRO instant_parts(s) AS
    regexp_extract(s,
        '^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])'
        || '(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])((?:[01][0-9]|2[0-3])):([0-5][0-9]))$',
        ['day', 'time', 'fraction', 'sign', 'hours', 'minutes']);

CREATE MACRO parts_ns(p) AS TRY_CAST(
    epoch_us(TRY_CAST(p.day || ' ' || p.time AS TIMESTAMP))::HUGEINT * 1000
    + rpad(p.fraction, 9, '0')::HUGEINT
    - CASE p.sign WHEN '' THEN 0 WHEN '-' THEN -1 ELSE 1 END
      * (coalesce(TRY_CAST(p.hours AS HUGEINT), 0) * 60
         + coalesce(TRY_CAST(p.minutes AS HUGEINT), 0)) * 60000000000
    AS BIGINT);

-- RFC 3339 with a zone as ns since the epoch, null if it cannot be read.
CREATE MACRO instant_ns(s) AS
    CASE WHEN regexp_full_match(s,
            '(19[7-9][0-9]|20[0-9]{2}|21[0-9]{2})-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3])(:[0-5][0-9]){2}Z')
            THEN epoch_us(TRY_CAST(s AS TIMESTAMP)) * 1000
         ELSE parts_ns(instant_parts(s)) END;
"""


def sql_text(value: str) -> str:
    """Quote a text for use in SQL."""
    return "'" + value.replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """Quote a column's name for use in SQL."""
    return '"' + name.replace('"', '""') + '"'
