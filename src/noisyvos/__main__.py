"""`python -m noisyvos`: the command line, also where its script is not on the PATH."""

from noisyvos.cli import main

main()
