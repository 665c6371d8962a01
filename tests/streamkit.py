"""A simulated Alpaca and `marketpipe stream`, each in a process of its own."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

SECRET = "SECRET"
SESSION = ("--start", "2026-01-05T14:30:00Z", "--seconds", "3600", "--speed", "60", "--port", "0")


@contextmanager
def simulator(*words: str) -> Iterator[dict[str, str]]:
    """Run `marketpipe simulate alpaca`; give environment variables that lead to it."""
    command = [sys.executable, "-m", "marketpipe", "simulate", "alpaca", *SESSION, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = {}
    try:
        for line in process.stdout or ():
            name, _, value = line.strip().partition(" ")
            if name == "ready":
                break
            found[name] = value.strip().split(" ")[0]
        yield {
            "ALPACA_API_KEY": "KEY",
            "ALPACA_SECRET_KEY": SECRET,
            "MARKETPIPE_ALPACA__STREAM_URL": found["rest"].replace("http", "ws", 1),
            "MARKETPIPE_ALPACA__REST_URL": found["rest"],
            "MARKETPIPE_ALPACA__CLOCK": found["clock"],
        }
    finally:
        process.terminate()
        process.communicate()


def listening(folder: Path, environ: Mapping[str, str], *words: str) -> "subprocess.Popen[str]":
    """Start a stream in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "marketpipe", "stream", "--timeframes", "1m", *words],
        env={**os.environ, **environ},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_bars(
    folder: Path, process: "subprocess.Popen[str]", feeds: int = 1, more_than: int = 0
) -> None:
    """Wait until so many feeds have bars in the store, and more than so many."""
    store = str(folder / "data" / "marketpipe.db")
    words = [sys.executable, "-c", _WAIT, store, str(feeds), str(more_than)]
    subprocess.run(words, check=True, timeout=90)
    assert process.poll() is None


def in_store(folder: Path) -> int:
    """Return how many bars the store has."""
    with closing(sqlite3.connect(folder / "data" / "marketpipe.db")) as store:
        return int(store.execute("SELECT count(*) FROM bars").fetchone()[0])


_WAIT = """
import sqlite3, sys, time
path, feeds, more_than = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
while True:
    try:
        found, bars = sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(
            "SELECT count(DISTINCT feed), count(*) FROM series JOIN bars ON series.id = series_id"
        ).fetchone()
        if found >= feeds and bars > more_than:
            break
    except sqlite3.OperationalError:
        pass
    time.sleep(0.1)
"""
