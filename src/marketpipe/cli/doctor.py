"""`marketpipe doctor`."""

import typer

from marketpipe.cli.common import DEFAULT_DATA_DIR, DataDir


def doctor(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Say what is installed, usable and missing, and how to mend it; exit 1 if something is broken.

    Example: marketpipe doctor
    """
    from marketpipe.pipelines.doctor import checks

    broken = False
    for check in checks(data_dir):
        print(f"{check.verdict:<8} {check.what}: {check.found}")
        if check.remedy:
            print(f"         {check.remedy}")
        broken = broken or check.verdict == "broken"
    if broken:
        raise typer.Exit(1)
