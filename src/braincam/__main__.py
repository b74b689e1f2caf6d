"""``python -m braincam``, as torchrun and people without the script on their path call it."""

import sys

from braincam.cli import main

sys.exit(main())
