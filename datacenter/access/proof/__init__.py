"""Proofs about policies: theorems, formulas for the solver, and counterexamples in words."""
