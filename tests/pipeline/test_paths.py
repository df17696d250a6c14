import subprocess

import pytest

from zrag_core.errors import ZragError
from zrag_pipeline.platform import paths, provenance


def test_data_folder_is_created_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "자료" / "zrag"))
    assert paths.warehouse_file() == tmp_path / "자료" / "zrag" / "warehouse.duckdb"
    assert paths.handles_dir().is_dir()
    assert not paths.warehouse_file().exists()


def test_relative_data_folder_is_anchored_at_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZRAG_DATA_DIR", "here")
    assert paths.data_dir() == tmp_path / "here"


def test_data_and_dagster_home_default_to_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("ZRAG_DATA_DIR", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    assert paths.data_dir() == tmp_path / "data"
    assert paths.dagster_home_dir() == tmp_path / "dagster_home"


def test_data_and_dagster_home_of_an_installed_copy_are_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ZRAG_DATA_DIR", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(paths, "CHECKOUT", None)
    monkeypatch.chdir(tmp_path)
    assert paths.data_dir() == tmp_path / "data"
    assert paths.dagster_home_dir() == tmp_path / "dagster_home"


def test_data_folder_that_cannot_be_made_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(ZragError, match=r"file/data: the data folder cannot be created .*-> set ZRAG_DATA_DIR"):
        paths.warehouse_file()


def test_read_only_data_folder_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    # Root may write anywhere, so the system's answer is stood in for.
    monkeypatch.setattr(paths.os, "access", lambda *_: False)
    with pytest.raises(ZragError, match="the data folder is read-only -> set ZRAG_DATA_DIR"):
        paths.data_dir()


def test_git_sha_tells_clean_from_changed(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def sha():
        provenance.git_sha.cache_clear()
        return provenance.git_sha()

    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    try:
        assert sha() is None
        git("init", "-q")
        (tmp_path / "code.py").write_text("1")
        git("add", "code.py")
        git("commit", "-q", "-m", "first")
        git("tag", "v1")
        commit = git("rev-parse", "HEAD")
        assert sha() == commit
        (tmp_path / "code.py").write_text("2")
        assert sha() == f"{commit}-dirty"
    finally:
        provenance.git_sha.cache_clear()
