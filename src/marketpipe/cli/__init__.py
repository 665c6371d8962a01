"""Takes what the user types; gives exit codes and words.

Never holds a market rule. Nothing heavy is imported before a command needs it.
"""
