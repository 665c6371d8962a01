"""`marketpipe doctor`."""

import typer

from marketpipe.cli.common import settings


def doctor(ctx: typer.Context) -> None:
    """Say what is installed, kept and missing, and how to mend it; exit 1 if something is broken.

    Example: marketpipe doctor
    """
    from marketpipe.access import folder_of
    from marketpipe.pipelines.doctor import checks

    broken = False
    for check in checks(folder_of(settings(ctx))):
        print(f"{check.verdict:<8} {check.what}: {check.found}")
        if check.remedy:
            print(f"         {check.remedy}")
        broken = broken or check.verdict == "broken"
    if broken:
        raise typer.Exit(1)
