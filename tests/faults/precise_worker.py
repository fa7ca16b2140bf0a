"""An engine worker as `python -m hodios.engine.worker`, but for its activations: these keep their full precision."""

import functools
import sys

from hodios.engine import worker
from hodios.engine.runner import Runner

if __name__ == "__main__":
    worker.Runner = functools.partial(Runner, quantizes_activations=False)  # type: ignore[misc, assignment]
    sys.exit(worker.main(sys.argv[1:]))
