"""One run of the whole lineage for all tests that look at what it leaves, or go on from there."""

import shutil
from dataclasses import replace

import dagster as dg
import pytest
from pipeline_runs import Lineage, execute


@pytest.fixture(scope="session")
def lineage_instance(tmp_path_factory):
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture(scope="session")
def lineage(tmp_path_factory, lineage_instance):
    """The job `full` on twelve almanac documents; only to be read."""
    # A name with a blank and Korean, because data folders have such names.
    data = tmp_path_factory.mktemp("lineage") / "자료 1"
    return Lineage(data, execute("full", data, instance=lineage_instance))


@pytest.fixture
def own_lineage(lineage, tmp_path):
    """A copy of the lineage's data folder that a test may change (MLflow's artifacts stay with the original)."""
    data = tmp_path / "data"
    shutil.copytree(lineage.data, data)
    return replace(lineage, data=data)


@pytest.fixture(scope="session")
def towns(tmp_path_factory):
    """A data folder whose champion holds five short documents (see `small_champion`); only to be read."""
    from small_champion import make_champion

    data = tmp_path_factory.mktemp("champion") / "자료 1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZRAG_DATA_DIR", str(data))
        make_champion()
    return data


@pytest.fixture(scope="session")
def towns_folder(towns):
    """The folder of the champion of `towns`."""
    from zrag_pipeline.platform.champion_file import read_champion

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZRAG_DATA_DIR", str(towns))
        return read_champion().folder


@pytest.fixture(scope="session")
def trained_skill(tmp_path_factory):
    """The job `pretrain_tiny` with a few steps; only to be read."""
    data = tmp_path_factory.mktemp("skill") / "자료"
    return Lineage(data, execute("pretrain_tiny", data))
