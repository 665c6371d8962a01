"""Shared fixtures: where the real market data is."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("uncompiled", deadline=None, max_examples=15, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Folder of real market data; the test skips where it is not configured."""
    folder = os.environ.get("MARKETPIPE_TEST_DATA")
    if not folder:
        pytest.skip("MARKETPIPE_TEST_DATA is not set: it names the folder of real market data")
    return Path(folder).resolve()
