"""Replaying: recordings and captures as runs, which of their connections are wanted, the verdict.

Owns: what comes from files instead of live witnesses. Must not know how anything is shown.
"""
