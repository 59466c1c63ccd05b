"""Playing scenarios: the stage, the one loop from the witnesses to the sinks, many side by side.

Owns: threads, processes and the order of time of a run. Must not know how anything is shown.
"""
