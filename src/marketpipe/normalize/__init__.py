"""Takes vendor records (`TradeBatch`, `QuoteBatch`).

Gives canonical ticks, quarantined rows and findings: dedup, order keys, condition flags.
Never does I/O, reads a clock, or drops a row without counting it.
"""

from marketpipe.normalize.corrections import Content, Correction, CorrectionBook
from marketpipe.normalize.identity import Scope, SessionIds, content_fingerprint, utc_dates
from marketpipe.normalize.normalizer import Normalized, TickNormalizer
from marketpipe.normalize.order import venue_code
from marketpipe.normalize.ruleset import RuleSet, Verdict
from marketpipe.normalize.validator import Problem, SchemaValidator, Validation

__all__ = [
    "Content",
    "Correction",
    "CorrectionBook",
    "Normalized",
    "Problem",
    "RuleSet",
    "SchemaValidator",
    "Scope",
    "SessionIds",
    "TickNormalizer",
    "Validation",
    "Verdict",
    "content_fingerprint",
    "utc_dates",
    "venue_code",
]
