"""`python -m bench [NAME...] [--quick] [--runs N] [--store oss|s3]`: run benchmarks.

All of them without a name; s3 is SeaweedFS, oss (the default, but for clients) the emulator.

Each runs in a process of its own, one after another: a benchmark's memory and imports are no
other's. Exits non-zero when one of them found something wrong, after all have run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    scripts = {path.stem: path for path in sorted(FOLDER.glob("[a-z]*.py"))}
    words = sys.argv[1:]
    names = [word for word in words if word in scripts]
    options = words[len(names) :]
    if words[: len(names)] != names or (options and not options[0].startswith("--")):
        print(f"no such benchmark: {words[len(names)]}; there are:", file=sys.stderr)
        for name, path in scripts.items():
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f"  {name:10}{summary}", file=sys.stderr)
        return 2
    failed = [
        name
        for name in names or scripts
        if subprocess.run([sys.executable, scripts[name], *options], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
