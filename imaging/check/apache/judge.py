"""Evaluating an httpd configuration: the verdict of every rule of the Apache STIGs."""

from __future__ import annotations

from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import DATA, ApacheRule, load_data
from imaging.check.apache.rules import all_rules
from imaging.check.reasons import by_rule
from imaging.check.types import Judged, Judgement, RuleVerdict


def judge_server(server: ApacheServer) -> Judgement:
    """Evaluate all rules on a configuration. Raises: WrongCheck, if httpd.toml is invalid."""
    judged = [_judge(one, server) for one in all_rules().values()]
    for id, reason in by_rule(load_data().left_out, DATA):
        judged.append(Judged(id, "medium", "", RuleVerdict.LEFT_OUT, reason))
    return Judgement(sorted(judged, key=lambda one: one.rule))


def _judge(one: ApacheRule, server: ApacheServer) -> Judged:
    found = tuple(map(str, one.check(server)))
    verdict = RuleVerdict.FAIL if found else RuleVerdict.PASS
    return Judged(one.id, one.severity, one.title, verdict, findings=found)
