"""The screens: a scenario as it plays, a recording, a live host. Widgets get frozen values only."""
