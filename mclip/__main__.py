"""Where the command line begins: `mclip` and `python -m mclip`."""

import os
import signal
from typing import NoReturn


def _nothing_begun(_signal: int, _frame: object) -> NoReturn:
    """Ctrl-C while modules are loaded: in the middle of an import nothing else is safe."""
    os.write(2, b"mclip: interrupted\n")
    os._exit(130)


def main() -> None:
    """Run the command line (`mclip.cli.run`, which answers Ctrl-C itself once it runs)."""
    signal.signal(signal.SIGINT, _nothing_begun)
    from mclip.cli import run

    run()


if __name__ == "__main__":
    main()
