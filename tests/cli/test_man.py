"""Manual pages and completions: of every command, with every option, and in their places."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2pfl.cli import completion, roff
from p2pfl.cli.main import p2pfl, run

EVERY = [(roff.file_of(one), one) for one in roff.every(p2pfl, "p2pfl")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    assert run(["man", "-o", str(folder)]) == 0
    return folder


def test_each_command_has_a_page_that_names_each_of_its_options(pages: Path) -> None:
    assert {file.name for file in pages.iterdir()} == {name for name, _ in EVERY}
    assert {"p2pfl.1", "p2pfl-join.1", "p2pfl-peers-create.1", "p2pfl-keys-rotate.1"} <= {name for name, _ in EVERY}
    for name, context in EVERY:
        text = (pages / name).read_text("ascii").replace("\\-", "-")
        for parameter in context.command.get_params(context):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts), (name, parameter.opts)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_every_page_is_roff_without_a_warning_and_says_what_help_says(pages: Path) -> None:
    named = [str(pages / name) for name, _ in EVERY]
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", *named], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    text = re.sub(r"\s+", " ", done.stdout.replace("\u2010\n", ""))
    assert "Take part: train with the other sites until the agreed rounds are final." in text
    assert "ε" in text


@pytest.mark.parametrize("text", [".so /etc/passwd", "'br", "a\\fBb", '"quoted" `x` ^ ~', "ε ≤ 3", "--peers"])
def test_no_text_is_a_request_of_roff(text: str) -> None:
    made = roff.escaped(text)
    assert made.isascii()
    assert made[:1] not in (".", "'")
    assert "\\f" not in made
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-Tutf8", "-P-c"], input=f"{made}\n", capture_output=True, text=True, check=True
        )
        assert done.stdout.strip().replace("−", "-") == text  # as man(7) shows an option


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", ".local/share/bash-completion/completions/p2pfl"),
        ("zsh", ".local/share/zsh/site-functions/_p2pfl"),
        ("fish", ".config/fish/completions/p2pfl.fish"),
    ],
)
def test_a_completion_is_installed_in_its_place_and_replaces_its_own_kind_alone(
    shell: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for _ in range(2):
        assert run(["completion", shell, "--install"]) == 0
    assert completion.VARIABLE in (tmp_path / place).read_text()
    assert str(tmp_path / place) in capsys.readouterr().out
    (tmp_path / place).write_text("mine")
    assert run(["completion", shell, "--install"]) == 2
    assert (tmp_path / place).read_text() == "mine"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / place]


def test_folders_that_the_user_has_chosen_are_taken_and_relative_ones_are_not() -> None:
    named = {"HOME": "/h", "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "not/absolute"}
    assert completion.place_of("bash", named)[0] == Path("/d/bash-completion/completions/p2pfl")
    assert completion.place_of("fish", named)[0] == Path("/h/.config/fish/completions/p2pfl.fish")
    named["BASH_COMPLETION_USER_DIR"] = "/b"
    assert completion.place_of("bash", named)[0] == Path("/b/completions/p2pfl")


def test_bash_completes_commands_by_the_installed_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BASH_COMPLETION_USER_DIR", str(tmp_path))
    assert run(["completion", "bash", "--install"]) == 0
    (tmp_path / "p2pfl").write_text(f'#!/bin/sh\nexec {sys.executable} -m p2pfl "$@"\n')
    (tmp_path / "p2pfl").chmod(0o700)
    script = f"""PATH={tmp_path}:$PATH
source {tmp_path}/completions/p2pfl
COMP_WORDS=(p2pfl keys ro); COMP_CWORD=2; _p2pfl_completion p2pfl; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "rotate", done.stderr
