"""The parts to bring to a visit: those that open alerts name, and those whose triggers are near to an alert.

The probability that a part is right is the precision of its trigger on histories with known truth, as
`triggers/scores.toml` has it (`datacenter.scoring`).
"""
