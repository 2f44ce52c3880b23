"""``python -m rollmath``."""

import sys

from rollmath.cli import main

sys.exit(main())
