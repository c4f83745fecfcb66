"""Duplicate address detection proxied between access points, and between hosts of one that do not hear each other.

Stateless: nobody is answered for; what a host says is carried to those who have not heard it, and who owns the address
answers by itself (draft-barth-homenet-wifi-roaming-00 §3; RFC 4862 §5.4 for IPv6, RFC 5227 for IPv4). What is
remembered is remembered for seconds, against loops, echoes and floods only. Pure: `proxy` decides; a shell hears,
tells and performs.
"""

from roamroute.dad.counters import DadCounters
from roamroute.dad.effects import DadEffect, Defend, HandOut, Relay
from roamroute.dad.limits import Limits
from roamroute.dad.proxy import DadMode, DadProxy
from roamroute.dad.view import View

__all__ = ["DadCounters", "DadEffect", "DadMode", "DadProxy", "Defend", "HandOut", "Limits", "Relay", "View"]
