"""Independent recomputation of what cannot be read."""

from pathlib import Path

import pytest

from marketpipe.errors import HeaderError, InputError
from marketpipe.verify import Recomputed, recompute


def of(text: str, folder: Path) -> Recomputed:
    path = folder / "ticks.csv"
    path.write_text(text)
    return recompute(path, ["1m"])


def test_recompute_unusable_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match="lacks price, size, ts_ns or ts_us"):
        of("symbol,bid,ask\nA,1,1", tmp_path)
    with pytest.raises(HeaderError, match="has twice price"):
        of("symbol,ts_ns,price,size,price", tmp_path)
    with pytest.raises(InputError, match="header cannot be read"):
        recompute(tmp_path / "none.csv", ["1m"])
    with pytest.raises(InputError, match="cannot be read"):
        recompute(tmp_path / "none.parquet", ["1m"])
    (tmp_path / "broken.csv.zst").write_bytes(b"no zstd")
    with pytest.raises(InputError, match="header cannot be read"):
        recompute(tmp_path / "broken.csv.zst", ["1m"])
