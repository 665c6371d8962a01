"""Takes nothing; gives the records, schemas, timeframes, sessions and words of all other parts.

Never does I/O (but for reading an override file it is given) or looks at a clock.
"""
