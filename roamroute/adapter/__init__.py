"""What every adapter of a routing daemon does, written once; a third party's adapter may use it or not.

`ledger` keeps what is wanted, exported and foreign; `agenda` says when to ask about which; `problems` tells an operator
once; `reconnect` comes back for ever; `settings` reads the `[exporters.NAME]` table; `terminal` drives an interactive
command line that is kept open.
"""
