"""Evaluating an httpd configuration: the verdict of every rule of the Apache STIGs."""

from __future__ import annotations

from imaging.check.apache.httpd import ApacheServer
from imaging.check.apache.rule import DATA, ApacheRule, load_data
from imaging.check.apache.rules import all_rules
from imaging.check.reasons import by_rule
from imaging.check.types import Evaluation, RuleEvaluation, RuleVerdict


def evaluate_server(server: ApacheServer) -> Evaluation:
    """Evaluate all rules on a configuration. Raises: InvalidCheckInput, if httpd.toml is invalid."""
    evaluated = [_evaluate(one, server) for one in all_rules().values()]
    for id, reason in by_rule(load_data().left_out, DATA):
        evaluated.append(RuleEvaluation(id, "medium", "", RuleVerdict.LEFT_OUT, reason))
    return Evaluation(sorted(evaluated, key=lambda one: one.rule))


def _evaluate(one: ApacheRule, server: ApacheServer) -> RuleEvaluation:
    findings = tuple(map(str, one.check(server)))
    verdict = RuleVerdict.FAIL if findings else RuleVerdict.PASS
    return RuleEvaluation(one.id, one.severity, one.title, verdict, findings=findings)
