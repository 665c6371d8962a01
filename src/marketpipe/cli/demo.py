"""`marketpipe demo`: the main job end to end, on generated ticks."""

from pathlib import Path
from typing import Annotated

import typer

from marketpipe.cli.common import DEFAULT_DATA_DIR, progress_line
from marketpipe.cli.options import DataDir, Quiet


def demo(
    trades: Annotated[
        int, typer.Option(min=1_000, max=50_000_000, help="Generated trades.")
    ] = 400_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generator.")] = 1,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    quiet: Quiet = False,
) -> None:
    """Generate a session of ticks, build its bars, and prove them by an independent computation.

    Example: marketpipe demo --trades 1000000 --seed 7
    """
    from marketpipe.cli.report import print_report
    from marketpipe.pipelines.demo import generate, sample
    from marketpipe.pipelines.files import ReplayJob, run_job

    folder = data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    ticks: Path = folder / f"ticks-{seed}-{trades}.csv.gz"
    print("These ticks are GENERATED, by a seeded recipe: they are no market's data.")
    print(f"writing    {ticks}")
    generate(ticks, trades, seed)
    output = folder / "bars.csv"
    job = ReplayJob(
        csv=str(ticks),
        calendar="XNYS",
        session="regular",
        rules="plain",
        output=output,
        confirm=True,
    )
    with progress_line(quiet) as show:
        report = run_job(job, show)
    print()
    print(sample(output, "AAPL", "1h"))
    print()
    print_report(report)
    if not report.confirmed:
        raise typer.Exit(1)
