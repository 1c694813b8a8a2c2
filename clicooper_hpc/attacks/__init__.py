"""Attacks on a recorded run: what each party can find out from what it was given, measured.

An attack sees a `View` and an `Aux` (`clicooper_hpc.attacks.harness.view`), never the truth; its
score is made afterwards from its guess and the `Truth`, and comes as `AttackResult`s with chance
level, the score of an attacker without information, and the ceiling of differential privacy where
there is one.
"""
