"""Run mypy and pyright over the link tree; a folder that a checker skips in silence is a failure."""

import json
import pathlib
import subprocess
import sys

import links

BIN = pathlib.Path(sys.executable).parent


def mypy() -> subprocess.Popen[str]:
    """mypy, begun: it takes one processor, and pyright the other."""
    return subprocess.Popen([BIN / "mypy"], cwd=links.ROOT, stdout=subprocess.PIPE, text=True)


def pyright() -> int:
    """Exit code of pyright, 1 as well when it read another number of files than we have."""
    command = [BIN / "pyright", "--outputjson", "--pythonpath", sys.executable]
    run = subprocess.run(command, cwd=links.ROOT, stdout=subprocess.PIPE, text=True)
    if "{" not in run.stdout:
        print(run.stdout, file=sys.stderr)
        return run.returncode or 1
    report = json.loads(run.stdout[run.stdout.index("{") :])
    for found in report["generalDiagnostics"]:
        line = found.get("range", {}).get("start", {}).get("line", 0) + 1
        print(f"{found['file']}:{line}: {found['severity']}: {found['message']}")
    ours = sum(len(list((links.ROOT / folder).rglob("*.py"))) for folder in links.packages().values())
    read, errors = report["summary"]["filesAnalyzed"], report["summary"]["errorCount"]
    print(f"pyright: {errors} errors in {read} files", flush=True)
    if read != ours:
        print(f"pyright read {read} of our {ours} files: name every room in pyrightconfig.json", file=sys.stderr)
        return 1
    return run.returncode


if __name__ == "__main__":
    links.make()
    with mypy() as begun:
        failed = pyright()
        print(begun.communicate()[0], end="")
    sys.exit(failed | begun.returncode)
