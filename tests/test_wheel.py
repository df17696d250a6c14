"""The wheel: what is in it, and that it works in an empty folder, where no checkout is near."""

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it is made of (building leaves files behind)."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "zrag_core", "zrag_pipeline", "dagster_home"):
        (source / name).symlink_to(CHECKOUT / name)
    subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a module of the unpacked wheel in an empty folder; returns exit code and output."""
    packages = tmp_path_factory.mktemp("packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    folder = tmp_path_factory.mktemp("empty")

    def run(*arguments):
        # The unpacked packages come before an editable installation of the checkout.
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        result = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run.folder = folder
    return run


def files_below(folder, *names):
    return {
        str(path.relative_to(CHECKOUT))
        for name in names
        for path in (CHECKOUT / folder).rglob(name)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_packages_and_their_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = files_below("zrag_core", "*") | files_below("zrag_pipeline", "*")
    shipped = {"dagster_home/dagster.yaml"} | files_below("dagster_home/configs", "*.yaml")
    assert held == expected | {f"zrag_pipeline/{name}" for name in shipped}


def test_its_metadata_are_those_of_the_project(wheel):
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        text = {
            name.split("/")[-1]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
        }
    metadata = Parser().parsestr(text["METADATA"])
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(needed) == sorted(project["dependencies"])
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "zrag = zrag_pipeline.cli:main" in text["entry_points.txt"]


def test_the_commands_work_where_no_checkout_is(installed):
    told = " ".join(installed("-m", "zrag_pipeline.cli", "--help").split())
    assert "Nothing here yet? `dagster job execute -m zrag_pipeline.definitions -j demo` builds a first memory." in told
    where = installed("-m", "zrag_pipeline.cli", "where")
    assert f"data:         {installed.folder / 'data'}  (not made yet)\n" in where
    assert f"DAGSTER_HOME: {installed.folder / 'dagster_home'}\n" in where
    assert "look:         zrag ui" in where


def test_it_brings_its_configurations(installed):
    configs = CHECKOUT / "dagster_home" / "configs"
    listed = installed("-m", "zrag_pipeline.cli", "config").splitlines()
    assert [line.split()[0] for line in listed] == sorted(path.stem for path in configs.iterdir())
    demo = (configs / "demo.yaml").read_text("utf-8")
    assert installed("-m", "zrag_pipeline.cli", "config", "demo") == demo
    code = "from zrag_pipeline.defs.jobs import demo; print(demo.config)"
    assert ast.literal_eval(installed("-W", "ignore", "-c", code)) == yaml.safe_load(demo)
