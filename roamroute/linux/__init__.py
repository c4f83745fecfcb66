"""Linux: the only package that opens netlink or packet sockets.

neighbours: what the kernel's neighbour cache, links and bridges say, and probes.  fib: the exporter called `kernel`.
foreign: other protocols' host routes.  packets: addresses in stations' frames.  stations: nl80211.  machine: facts
for `roamroute check`.  rtnetlink: the two kinds of socket below them all.
"""
