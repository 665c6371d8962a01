"""Real servers for tests: started on free ports of the loopback in temporary folders."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def postgres_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def postgres(binaries: Path) -> Iterator[str]:
    """Run a PostgreSQL server in a folder of its own; give the URL of its database ``postgres``.

    Where the tests run as root, the server runs as ``postgres``. That user could not enter the
    folders that pytest makes.
    """
    folder = Path(tempfile.mkdtemp(prefix="marketpipe-postgres-"))
    try:
        yield from _serve(folder, binaries)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(folder: Path, binaries: Path) -> Iterator[str]:
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        as_user += ["--reset-env"]
    data, port = folder / "data", free_port()
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "tester",
        "--auth=trust",
        "--no-sync",
    ]
    _run([*as_user, *initdb, "-E", "UTF8", "--locale=C.UTF-8"])
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control: list[str | Path] = [*as_user, binaries / "pg_ctl", "-D", data]
    _run([*control, "-w", "-l", folder / "log", "-o", options, "start"])
    try:
        yield f"postgresql://tester:not-shown@127.0.0.1:{port}/postgres"
    finally:
        _run([*control, "-m", "immediate", "stop"])


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would stay open in the server
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {command}")
