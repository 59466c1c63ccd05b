"""The witnesses: each turns one view of a running kernel into observations. No conclusions here."""
