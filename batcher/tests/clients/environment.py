"""Virtual environments in cargo's target folder, made on demand and again when their requirements change."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[2] / "target")).resolve() / "clients"


class Missing(Exception):
    """What is needed cannot be installed here."""


def environment(name: str, python: Path) -> Path:
    """The Python of the environment `name`, which has the packages of requirements/NAME.txt."""
    requirements = HERE / "requirements" / f"{name}.txt"
    folder = CACHE / name
    interpreter = folder / "bin" / "python"
    made_of = folder / "made-of"
    wanted = f"{python}\n{requirements.read_text()}"
    if made_of.exists() and made_of.read_text() == wanted:
        return interpreter
    print(f"installing {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    install = [interpreter, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    for command in ([python, "-m", "venv", folder], [*install, "-r", requirements]):
        try:
            done = subprocess.run([os.fspath(part) for part in command], capture_output=True, text=True)
        except OSError as error:
            raise Missing(f"{command[0]}: {error}") from error
        if done.returncode != 0:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise Missing(f"{name}: {said}")
    made_of.write_text(wanted)
    return interpreter
