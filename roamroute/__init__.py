"""roamroute: a Wi-Fi client that walks from one access point to the next keeps its addresses, by routing alone.

Importing this package opens nothing, starts nothing and imports nothing else: a mesh daemon that wants only the
policy engine pays only for :mod:`roamroute.engine`.
"""

__version__ = "0.1.0"
