"""The GitHub Action: its script runs as a runner runs it, and no input is part of the script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "actions" / "tcpwatch"
TEXT = (FOLDER / "action.yml").read_text() if FOLDER.is_dir() else "{}"  # not in an sdist
ACTION: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"] if ACTION else []
SCRIPTS = [step for step in STEPS if "run" in step]
INSTALL, NAMESPACES, PLAY = SCRIPTS or [{}] * 3

pytestmark = pytest.mark.skipif(not ACTION, reason="the action is in a checkout only")


def run(
    step: dict[str, Any], folder: Path, *, path: str = "", **inputs: str
) -> subprocess.CompletedProcess[str]:
    """A step with inputs as the runner hands them over. ``path`` comes in front of the others."""
    values = {name: str(one["default"]) for name, one in ACTION["inputs"].items()}
    values |= {name.replace("_", "-"): value for name, value in inputs.items()}
    given = {
        name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: values[found[1]], value)
        for name, value in step.get("env", {}).items()
    }
    environment = os.environ | given
    environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(FOLDER),
        "GITHUB_PATH": str(folder / "path"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_WORKSPACE": str(folder),
        "PATH": f"{path or Path(sys.executable).parent}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_script_has_an_input_within_and_each_can_be_read() -> None:
    for step in SCRIPTS:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        argv = ["bash", "-n", "-c", step["run"]]
        assert subprocess.run(argv, capture_output=True, check=False).stderr == b""


def test_every_input_is_used_and_none_is_missing() -> None:
    told = yaml.safe_dump(STEPS)
    assert set(re.findall(r"inputs\.([a-z-]+)", told)) == set(ACTION["inputs"])
    for step in SCRIPTS:  # what a step is given, its script reads, and nothing else
        assert set(re.findall(r"INPUT_[A-Z_]+", step["run"])) == set(step.get("env", {}))


def test_what_is_installed_leaves_the_jobs_python_alone(tmp_path: Path) -> None:
    """A stand-in for pip's package is found where pip looks, without a network."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(
        f'#!/bin/bash\n[ "$2" = venv ] || exec {sys.executable} "$@"\n'
        'mkdir -p "$3/bin"; printf "#!/bin/bash\\necho \\"\\$@\\"" > "$3/bin/python"\n'
        'cp "$3/bin/python" "$3/bin/tcpwatch"; chmod +x "$3"/bin/*\n'
    )
    python.chmod(0o755)
    done = run(INSTALL, tmp_path, path=str(python.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["-m", "pip", "install"]
    assert (Path(done.stdout.split()[-1]) / "pyproject.toml").samefile(ROOT / "pyproject.toml")
    (folder,) = (tmp_path / "path").read_text().split()
    assert [one.name for one in Path(folder).iterdir()] == ["tcpwatch"]
    assert os.access(Path(folder) / "tcpwatch", os.X_OK)
    done = run(INSTALL, tmp_path, path=str(python.parent), install="tcpwatch[capture] more")
    assert done.stdout.split()[-2:] == ["tcpwatch[capture]", "more"]


def test_where_user_namespaces_are_forbidden_that_is_changed_or_told(tmp_path: Path) -> None:
    sysctl, sudo = tmp_path / "sysctl", tmp_path / "sudo"
    for program, script in ((sysctl, "echo 1"), (sudo, 'echo "$@"')):
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
    done = run(NAMESPACES, tmp_path, path=str(tmp_path))
    assert done.stdout == "sysctl -qw kernel.apparmor_restrict_unprivileged_userns=0\n"
    sudo.write_text("#!/bin/bash\nexit 1\n")
    done = run(NAMESPACES, tmp_path, path=str(tmp_path))
    assert (done.returncode, done.stdout[:11]) == (0, "::warning::")


LEAK = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.close()
assert server.recv(1) == b""
if "close" in sys.argv:
    server.close()
    listener.close()
else:
    os._exit(0)  # at an orderly end Python would close it
"""


@pytest.mark.needs("lab")
def test_a_command_that_leaks_fails_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK, encoding="utf-8")
    done = run(PLAY, tmp_path, command="python3 leak.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\n::error title=FAIL " in done.stderr
    assert "CLOSE-WAIT" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "\x1b" not in done.stderr
    kept = {path.suffix for path in (tmp_path / "tcpwatch-kept").iterdir()}
    assert kept == {".xml", ".jsonl", ".txt", ".pcapng"}


@pytest.mark.needs("lab")
def test_a_command_that_closes_passes(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK, encoding="utf-8")
    expect = "server: ... > CLOSE-WAIT > LAST-ACK > CLOSED\n\nclient: ... > TIME-WAIT\n"
    done = run(
        PLAY, tmp_path, command="python3 leak.py close", expect=expect, never="CLOSE-WAIT[>9s]\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("lab")
def test_the_first_line_of_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    done = run(PLAY, tmp_path, command="false\necho reached", no_leaks="false")
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed, with exit status 1" in (tmp_path / "summary.md").read_text()


def test_as_root_the_command_has_the_jobs_path(tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/bash\nshift; PATH=/usr/bin:/bin exec "$@"\n')
    (tmp_path / "tcpwatch").write_text('#!/bin/bash\necho "$PATH"; printf "%s\\n" "$@"\n')
    for program in (sudo, tmp_path / "tcpwatch"):
        program.chmod(0o755)
    done = run(PLAY, tmp_path, path=str(tmp_path), root="true", run="normal-close --ipv6")
    path, *arguments = done.stdout.splitlines()
    assert path.startswith(f"{tmp_path}:")
    assert arguments[:3] == ["run", "normal-close", "--ipv6"]


def snippets() -> tuple[Any, Any]:
    """What the README has to paste: a step for GitHub, a job for GitLab."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    github, gitlab = re.split(r"^(?=.*# GitLab)", block, flags=re.MULTILINE)
    return yaml.safe_load(github), yaml.safe_load(gitlab)


def test_the_readmes_step_names_this_action_and_inputs_that_it_has() -> None:
    ((step,), _) = snippets()
    owner, name, *folders = step["uses"].partition("@")[0].split("/")
    assert (owner, name) == ("OWNER", "tcpwatch")
    assert ROOT.joinpath(*folders) == FOLDER
    assert step["with"].keys() <= ACTION["inputs"].keys()


@pytest.mark.needs("lab")
def test_the_readmes_job_does_what_it_is_to_do(tmp_path: Path) -> None:
    job = snippets()[1]["tcpwatch"]
    install, play = job["script"]
    assert install.startswith("pip install ")
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n", encoding="utf-8")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", play], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    artifacts = job["artifacts"]
    assert (tmp_path / artifacts["reports"]["junit"]).is_file()
    assert [(tmp_path / path).is_dir() for path in artifacts["paths"]] == [True]
