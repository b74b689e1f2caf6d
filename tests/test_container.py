"""The Dockerfile says what the package says, and its steps work; no container engine is needed to know either."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from braincam import cli
from serving import FORM, TOKEN, form, png

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, rest), continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def the(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def compose() -> dict[str, object]:
    service: dict[str, object] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["braincam"]
    return service


def test_its_python_is_one_that_the_package_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    images = [rest.split()[0] for rest in the("FROM")]
    assert len(set(images)) == 1
    version = re.fullmatch(r"python:(3\.\d+)-slim", images[0])
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]


def test_it_installs_what_serves_and_reads_compressed_dicom_and_nothing_that_trains() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = [set(name.split(",")) for rest in the("RUN") for name in re.findall(r"\[([\w,]+)\]", rest)]
    assert asked == [{"serve", "dicom"}] * 2
    needs = extras["serve"] + extras["dicom"]
    assert not {"torch", "braincam"} & {re.split(r"[\[><=]", need)[0] for need in needs}


def test_it_copies_all_that_the_build_reads() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {name for rest in the("COPY") if "--from" not in rest for name in rest.split()[:-1]}
    needed = {"pyproject.toml", config["project"]["readme"], *config["project"]["license-files"], "src"}
    assert copied == needed
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == needed


def test_it_runs_as_nobody_and_needs_a_token() -> None:
    assert the("USER") == ["10001:10001"]
    (entry,) = the("ENTRYPOINT")
    program, *call = json.loads(entry)
    assert program == "braincam"
    options = cli.parser().parse_args(call)
    assert (options.host, options.token_file) == ("0.0.0.0", None)
    assert the("EXPOSE") == [str(options.port)]
    assert f"http://127.0.0.1:{options.port}/healthz" in the("HEALTHCHECK")[0]
    assert not any(word in rest for word, rest in instructions() if word in {"ENV", "ARG"} for word in ("TOKEN", "KEY"))


def test_compose_gives_it_no_more_than_it_needs() -> None:
    service = compose()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]  # type: ignore[operator]
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])  # type: ignore[attr-defined]
    options = cli.parser().parse_args(["serve", *map(str, service["command"])])  # type: ignore[call-overload]
    assert options.token_file == Path("/run/secrets/token")
    assert options.workers + options.max_memory_megabytes / 1024 < float(str(service["mem_limit"]).rstrip("g"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the steps are those of Linux")
def test_its_steps_work_in_an_empty_environment(tmp_path: Path) -> None:
    """Every RUN with pip, in fresh environments, on copies of what it copies; then entry point and health check."""
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    source.mkdir()
    for rest in the("COPY"):
        for name in rest.split()[:-1]:
            if "--from" not in rest:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name)  # type: ignore[operator]
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "BRAINCAM_TOKEN"}}
    for number, rest in enumerate(rest for rest in the("RUN") if "pip" in rest):
        folder = tmp_path / f"venv{number}"  # each stage begins with Python alone
        venv.create(folder, with_pip=True)
        step = re.sub(r"--mount=\S+ ", "", rest).replace("/wheels", str(wheels))
        step = step.replace("python ", f"{folder}/bin/python ", 1)
        subprocess.run(shlex.split(step), cwd=source, env=environment, check=True, capture_output=True)
    listed = subprocess.run([folder / "bin/python", "-m", "pip", "list"], capture_output=True, text=True, check=True)
    assert "braincam" in listed.stdout
    assert "pylibjpeg-openjpeg" in listed.stdout
    assert "torch" not in listed.stdout
    program, *call = json.loads(the("ENTRYPOINT")[0])
    port = str(20_000 + os.getpid() % 20_000)
    call[call.index("8000")] = port
    server = subprocess.Popen(
        [folder / "bin" / program, *call],
        cwd=tmp_path,
        env=environment | {"BRAINCAM_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    with server:
        assert server.stderr.readline().startswith("braincam: starting")
        assert f"http://0.0.0.0:{port}" in server.stderr.readline()
        command = json.loads(the("HEALTHCHECK")[0].partition("CMD ")[2])
        check = [str(folder / "bin/python"), *command[1:-1], command[-1].replace("8000", port)]
        assert subprocess.run(check, check=False).returncode == 0
        content = form(("a.png", png(np.zeros((64, 64), np.uint8))))
        url = f"http://127.0.0.1:{port}/v1/predict"
        assert httpx.post(url, content=content, headers=FORM).status_code == 401
        answer = httpx.post(url, content=content, headers=FORM | {"Authorization": f"Bearer {TOKEN}"})
        assert answer.json()["predictions"][0]["status"] in {"ok", "refer", "rejected"}
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
    assert server.returncode == 0
