"""`python -m rdv.cli`: the `rdv` command of this interpreter."""

import sys

from rdv.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
