"""Makes an environment of the peers: ``python -m tests.peers install [DIRECTORY]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.peers.environment import install


def main() -> int:
    """Install, and say how the tests find it."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("what", choices=["install"])
    parser.add_argument("directory", nargs="?", type=Path, default=Path(".peers"))
    directory = parser.parse_args().directory.absolute()
    install(directory)
    print(f"RIMP_PEERS={directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
