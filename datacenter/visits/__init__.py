"""The parts to bring to a visit: parts named by open alerts, and parts whose triggers are close to an alert.

The probability that a part is right is the precision of its trigger on histories with known truth, as
`triggers/scores.toml` has it (`datacenter.scoring`).
"""
