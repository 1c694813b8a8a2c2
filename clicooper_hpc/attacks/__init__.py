"""Attacks on a recorded run: what each party can find out from what it was given, measured.

An attack is given an `AdversaryView` and `AuxiliaryData` and guesses
(`clicooper_hpc.attacks.harness.adversary`); its score is made afterwards from the guess and the
`GroundTruth`. It comes as `AttackResult`s with the chance level, the score of an attacker without
information, and the ceiling of differential privacy where there is one.
"""
