"""Takes a recipe; gives generated ticks, labelled as such; never a market's data.

The recipe holds the seed: the rows are a function of it alone. `synthetic.write` puts them in
files.
"""

from marketpipe.sources.synthetic.client import SyntheticSource
from marketpipe.sources.synthetic.config import SyntheticConfig

__all__ = ["SyntheticConfig", "SyntheticSource"]
