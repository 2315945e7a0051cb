import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_noise_generator.py"


@pytest.mark.parametrize(("there", "message"), [
    (None, "expected a folder with zdc/models, found none"),
    ("zdc/models", "expected a folder with data_nonrandom_particles.npz, found none")])
def test_folders_without_code_or_showers_are_refused(tmp_path, there, message):
    if there:
        (tmp_path / there).mkdir(parents=True)
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path), "--showers", str(tmp_path)], capture_output=True,
                          text=True)
    assert done.returncode == 2 and not done.stdout and message in done.stderr
