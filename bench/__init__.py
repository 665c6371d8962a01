"""Peers and ours on the same data in the same run; ``python -m bench`` writes the page."""
