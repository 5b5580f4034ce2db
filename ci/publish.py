"""Give what `make package` built and tried to a private package index: on a tag that is its version, and only once."""

import pathlib
import sys

from rdv import __version__
from rdv.cli.ci.package import DIST, digests, publish
from rdv.errors import RdvError, UsageError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> int:
    """The exit code; whatever is wrong is one sentence."""
    try:
        if not any((ROOT / DIST).glob("*.whl")):
            raise UsageError(f"there is no wheel in {DIST}/", "type: make package")
        told = publish(ROOT, {"version": __version__, "files": digests(ROOT / DIST)})
    except RdvError as error:
        print(f"publish: {error}", file=sys.stderr)
        return error.exit_code
    print(f"publish: {', '.join(told['files'])} on {told['index']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
