"""Observing any program's connections in a network namespace, and asking about them afterwards.

Owns: the witnesses beside a program that must not be slowed, whose a connection is, what is a leak.
Must not know who runs the program.
"""
