"""Takes sources, stages and sinks; gives running pipelines.

The only place where pure stages meet I/O. Never holds a market rule.
"""
