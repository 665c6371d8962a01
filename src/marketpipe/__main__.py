"""``python -m marketpipe`` is ``marketpipe``."""

from marketpipe.cli.main import run

run()
