"""Notices: messages to people and programs that an alert was raised or resolved.

The evaluator stores a notice in the transaction that stores the alert's change. `outbox` makes a *delivery* of it for
each target whose filters match, and `sender` sends all waiting deliveries for a target in one message. Each attempt
is recorded before it is made, and its outcome after it. Therefore, if a program is killed between the two, it is
unknown whether the message was sent. The consequence depends on the target:

* Targets that recognize repetitions (`repeats`) get the message again: at least once. Alertmanager merges alerts with
  equal labels; other receivers recognize a notice by its key, "<alert>:<kind>".
* Other targets, such as e-mail or chat, get it at most once. The delivery is `uncertain`, and the page of the
  alert shows that.

A target has one lease, which a process takes to send a message; therefore any number of processes may send.
"""
