"""`python -m hodios.providers.prepare_worker MODEL`: an installed model is prepared by a process of its own.

Tells a `Prepared` as JSON on standard output; what it could not do, in its last line on standard error.
"""

from __future__ import annotations

import sys

import msgspec

from hodios.config import load
from hodios.errors import SetupError
from hodios.providers.installed import find, installed
from hodios.providers.prepare import prepare


def main(arguments: list[str]) -> int:
    config = load()
    try:
        model = find(installed(config.home), arguments[0])
        if model is None:
            raise SetupError(f"{arguments[0]} is not installed any more")
        told = msgspec.json.encode(prepare(model, config))
    except (SetupError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    sys.stdout.buffer.write(told)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
