"""The examples do what they say, on synthetic scans, as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from conftest import QUICK

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, *arguments: object) -> str:
    """What an example prints; a failure shows its errors."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    tested = {"predict.py", "compare_attentions.py", "onnx_only.py", "heat_map.ipynb"}
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == tested


def test_predict_answers_each_slice_and_says_where(scans: Path):
    files = sorted((scans / "data" / "glioma").iterdir())[:2]
    printed = run_example("predict.py", *files)
    assert all(f"{file}\t" in printed for file in files)
    assert printed.count("hottest at") == 2


def test_two_attentions_are_compared_on_the_same_slices(scans: Path, tmp_path: Path):
    quick = [key for key in QUICK if not key.startswith("epochs")]
    printed = run_example("compare_attentions.py", scans / "data", tmp_path, scans / "patients.csv", *quick, "epochs=1")
    assert "none: accuracy" in printed
    assert "both: accuracy" in printed
    assert "both minus none" in printed


def test_the_model_file_answers_without_braincam(run: Path, scans: Path, tmp_path: Path):
    """Same numbers as ours, from a process that cannot import braincam or torch."""
    from braincam import Predictor

    scan = next((scans / "data" / "meningioma").iterdir())
    forbid = "import sys; sys.modules['braincam'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    code = forbid + "exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'))"
    script, picture = EXAMPLES / "onnx_only.py", tmp_path / "heat.png"
    command = [sys.executable, "-c", code, script, run / "model.onnx", scan, picture]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = Predictor(run).predict(scan)[0]
    assert answer.probabilities is not None
    for name, probability in answer.probabilities.items():
        assert f"{name:12} {probability:.3f}" in done.stdout
    assert "Research use only" in done.stdout
    with Image.open(picture) as heat, Image.open(scan) as original:
        assert heat.mode == "RGB"
        assert heat.size == original.size
        red, green, blue = np.moveaxis(np.asarray(heat).astype(int), -1, 0)
        assert answer.cam is not None
        hottest = np.unravel_index(answer.cam.argmax(), answer.cam.shape)
        place = tuple(int((k + 0.5) * n / m) for k, n, m in zip(hottest, red.shape, answer.cam.shape, strict=True))
        assert (green == blue).all() and (red >= green).all(), "grey, or red over it"
        assert red[place] - green[place] > 200
        assert (red == green).any()


def test_the_notebook_runs(tmp_path: Path):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    code = (
        "import nbclient, nbformat, sys; book = nbformat.read(sys.argv[1], 4); "
        "nbclient.NotebookClient(book, timeout=200, kernel_name='python3').execute(); nbformat.write(book, sys.argv[2])"
    )
    assert nbclient
    out = tmp_path / "run.ipynb"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(EXAMPLES / "heat_map.ipynb"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = str([cell.get("outputs") for cell in nbformat.read(out, 4).cells])
    assert "balanced accuracy" in said
    assert "image/png" in said
    assert "noise: rejected" in said
