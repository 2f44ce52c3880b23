"""``python -m rollmath.demo``, the same as ``python -m rollmath demo``."""

import sys

from . import main

sys.exit(main())
