"""The package as a stranger meets it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import braincam
from braincam import cli, errors

ROOT = Path(__file__).parents[1]


def test_importing_braincam_loads_neither_torch_nor_numpy() -> None:
    program = "import sys, braincam; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_public_name_exists_and_only_those() -> None:
    assert set(braincam.__all__) == {*braincam._HOME, "__version__"}
    for name in braincam.__all__:
        assert getattr(braincam, name) is not None
    with pytest.raises(AttributeError):
        _ = braincam.nonsense


def test_the_version_stands_in_one_form_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == braincam.__version__
    assert f"## {braincam.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {braincam.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_error_is_in_the_drawn_tree() -> None:
    drawn = set(re.findall(r"(\w+Error)", errors.__doc__ or ""))
    assert drawn == {name for name in vars(errors) if name.endswith("Error")}


def verbs() -> list[str]:
    (action,) = [a for a in cli.parser()._actions if a.dest == "==SUPPRESS==" or (a.choices and "predict" in a.choices)]
    return sorted(action.choices or [])


@pytest.mark.parametrize("verb", verbs())
def test_help_teaches_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([verb, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert f"braincam {verb}" in text.partition("examples:")[2]
    assert "Research use only" in text


def test_every_example_in_the_help_is_a_call_that_parses() -> None:
    for verb in verbs():
        text = cli.parser()._subparsers._group_actions[0].choices[verb].format_help()  # type: ignore[union-attr,index]
        for line in re.findall(r"^  braincam (.+)$", text, re.MULTILINE):
            cli.parser().parse_args(line.split())


def test_wrong_calls_are_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [
        ["nonsense"],
        ["predict"],
        ["predict", "x.png", "--model", "absent"],
        ["predict", "x.png", "--cam", "gradcam", "--no-cam"],
        ["predict", "x.nii", "--plane", "oblique"],
        ["predict", "x.nii", "--volume", "-1"],
        ["train", str(tmp_path), "--out", str(tmp_path / "run")],
        ["train", str(tmp_path / "absent"), "--out", str(tmp_path / "run")],
        ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "epoch=3"],
        ["train", str(tmp_path), "--out", "r", "--split", "f.csv", "--set", "split=official"],
        ["evaluate", str(tmp_path), "--fold", "0"],
        ["phantom", "--out", str(tmp_path / "p"), "--patients", "1"],
        ["export", str(tmp_path / "absent"), "--out", "x.onnx"],
    ]
    for call in calls:
        try:
            code = cli.main(call)
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        assert code == 2, (call, captured.err)
        assert captured.err.startswith("braincam: "), captured.err
        assert captured.err.count("\n") == 1, captured.err
        assert not captured.out


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "braincam", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
