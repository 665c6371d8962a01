"""Vendors on loopback, so faithful that their own libraries cannot tell the difference.

Takes recorded or generated sessions; gives servers of the vendors' protocols, with faults on
demand and a published clock. Never imported by anything but the command line and the tests.
"""

from marketpipe.simulator.clock import SimClock
from marketpipe.simulator.faults import FAULTS, Fault, Schedule, parse_faults, storm
from marketpipe.simulator.plans import Plan
from marketpipe.simulator.server import Simulator, Wire, serve

__all__ = [
    "FAULTS",
    "Fault",
    "Plan",
    "Schedule",
    "SimClock",
    "Simulator",
    "Wire",
    "parse_faults",
    "serve",
    "storm",
]
