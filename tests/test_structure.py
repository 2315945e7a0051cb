"""What the folders promise: dependencies that point one way, one door to the backends, files that one can read."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("zdckeras", "recipes", "tools", "tests")


def sources(*folders):
    """Relative path -> lines of every source file."""
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8").splitlines()
            for folder in folders for path in sorted(ROOT.glob(f"{folder}/**/*.py"))}


def test_dependencies_point_one_way_and_one_door_leads_to_backends():
    """The two contracts of setup.cfg; what breaks them is in the output."""
    command = "import importlinter.cli; importlinter.cli.lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", command, "--no-cache", "setup.cfg"], cwd=ROOT, capture_output=True,
                          encoding="utf-8")
    assert "Contracts: 2 kept, 0 broken." in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_files_are_few_short_and_not_deep():
    package = {path: lines for path, lines in sources("zdckeras").items() if lines}  # not the empty __init__.py
    assert 50 < len(package) <= 170
    folders = [path.parent for path in package]
    assert max(folders.count(folder) for folder in folders) <= 12
    assert max(len(path.parts) for path in package) <= 3
    assert {str(path): len(lines) for path, lines in sources(*FOLDERS).items() if len(lines) > 350} == {}
