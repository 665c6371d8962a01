"""`marketpipe sql`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.common import settings, writable
from marketpipe.cli.options import AsOf, Knowledge, KnownBy, Output

if TYPE_CHECKING:
    import polars as pl


class Shape(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def sql(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="One SELECT of DuckDB's SQL.")],
    as_of: AsOf = None,
    knowledge: KnownBy = Knowledge.ASSUMED,
    format: Annotated[Shape, typer.Option("--format", help="How to write it.")] = Shape.TABLE,  # noqa: A002
    output: Output = None,
) -> None:
    """Ask the lake: one SELECT over bars, trades, quotes, corrections, raw and its other tables.

    Example: marketpipe sql "SELECT symbol, count(*) FROM trades GROUP BY symbol"
    """
    from marketpipe.access import open_lake
    from marketpipe.errors import UsageError

    read = settings(ctx)
    if format is Shape.PARQUET and output is None and sys.stdout.isatty():
        raise UsageError("format: was 'parquet', which a terminal cannot show; add --output FILE")
    answer = open_lake(read).sql(query, as_of=as_of, knowledge=knowledge.value)
    if output is None:
        _write(answer, format, None)
    else:
        _write(answer, format, writable(output))
        print(f"wrote      {answer.height:,} rows to {output}")


def _write(answer: "pl.DataFrame", shape: Shape, output: Path | None) -> None:
    import io

    if shape is Shape.PARQUET:
        buffer = io.BytesIO()
        answer.write_parquet(buffer)
        data = buffer.getvalue()
    else:
        data = _text(answer, shape).encode()
    if output is not None:
        output.write_bytes(data)
    elif shape is Shape.PARQUET:
        sys.stdout.buffer.write(data)
    else:
        print(data.decode(), end="")


def _text(answer: "pl.DataFrame", shape: Shape) -> str:
    import polars as pl

    from marketpipe.errors import UsageError

    if shape is Shape.TABLE:
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_width_chars=10_000,
            fmt_str_lengths=200,
            tbl_hide_column_data_types=True,
            tbl_hide_dataframe_shape=True,
            tbl_formatting="ASCII_MARKDOWN",
        ):
            return f"{answer}\n"
    try:
        if shape is Shape.CSV:
            return answer.with_columns(pl.col(pl.Binary).bin.encode("hex")).write_csv()
        return answer.with_columns(pl.col(pl.Binary).bin.encode("hex")).write_json() + "\n"
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"format: was '{shape.value}', which cannot hold a column of the answer ({error}); "
            "cast it, for instance with ::VARCHAR, or take --format parquet"
        ) from None
