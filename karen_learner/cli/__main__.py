"""`python -m karen_learner.cli`: the same as `karen-learner`."""

from karen_learner.cli import main

main()
