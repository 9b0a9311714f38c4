"""``python -m twlab``"""

from twlab.cli import main

main()
