"""Verification of a training loop, in a line.

verify.py chooses the cases and keeps the verdict; child.py runs in the process of the loop:
binding (a spec becomes a contract) -> cases -> sandbox -> recording -> laws -> a verdict.
"""
