"""What each party of a run can find out, measured: attacks on what it was given, and their scores.

An attack sees a `View` and an `Aux` (`clicooper_hpc.attacks.view`), never the truth; its score is
made afterwards from its guess and the `Truth`, and comes as `Finding`s with chance level, the score
of an attacker without information, and the ceiling of differential privacy where there is one.
"""
