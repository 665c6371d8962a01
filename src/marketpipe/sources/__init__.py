"""Takes files and recipes; gives batches of vendor records and the rows that are none.

Never knows about bars; a source never imports another.
"""
