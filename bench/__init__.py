"""Peers and ours on the same data in the same run; ``python -m bench`` writes the page."""

import marketpipe as marketpipe  # before Arrow is loaded, as in a user's process: allocators
