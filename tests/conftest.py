"""What holds for every test."""

import os

from hypothesis import settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("anamnesis", deadline=None)
# What continuous integration says depends on the change alone; new examples are looked for wherever else tests run.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "anamnesis")
