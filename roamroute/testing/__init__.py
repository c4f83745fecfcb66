"""For those who test against roamroute: playbooks, virtual time, a fake kernel, a fake air, the exporters' contract.

Public. `strategies` needs hypothesis, `exporter_contract` needs pytest; nothing else here does.
"""
