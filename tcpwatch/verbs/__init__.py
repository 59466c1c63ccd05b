"""The commands, one module each: what is done, in which order, and the exit status it ends with.

Own: putting the packages below to work for one command. Must not parse arguments, conclude or draw.
"""
