"""``python -m rimp_otel`` is the command ``rimp``."""

import sys

from rimp_otel.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
