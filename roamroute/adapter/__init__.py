"""What every adapter of a routing daemon does, written once; a third party's adapter may use it or not.

`ledger` keeps what is wanted, exported and foreign; `problems` tells an operator once; `reconnect` comes back for ever;
`upkeep` brings a daemon to what is wanted, one piece of work at a time; `settings` reads the `[exporters.NAME]` table;
`terminal` drives an interactive command line that is kept open. `asking` is a whole exporter for a daemon that tells
nothing by itself, with `agenda` for what is asked when.
"""
