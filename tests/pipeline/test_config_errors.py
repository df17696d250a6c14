"""What Dagster says of a wrong configuration, in a line for each problem."""

import subprocess
import sys

import dagster as dg
import pytest

from zrag_pipeline.platform.config_errors import config_problems
from zrag_pipeline.platform.settings_resource import settings_resource


@dg.asset(required_resource_keys={"settings"})
def nothing() -> None:
    """Nothing."""


JOB = dg.Definitions(
    assets=[nothing], jobs=[dg.define_asset_job("job")], resources={"settings": settings_resource}
).resolve_job_def("job")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"corpus": ["a", "b"]}, "corpus: a section belongs here, with fields of its own"),
        ({"corpus": 3}, "corpus: a section belongs here, with fields of its own"),
        ({"backbone": {"lora": "secret"}}, "backbone.lora: a section belongs here, with fields of its own"),
        ({1: 2}, "the name of a field is a number or the like -> names are text"),
    ],
)
def test_a_wrong_outline_is_told_by_field(config, told):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - Dagster raises errors of several kinds
        JOB.execute_in_process(run_config={"resources": {"settings": {"config": config}}})
    assert config_problems(raised.value) == [told]


def test_other_errors_are_left_alone():
    assert config_problems(ValueError("Key in Mapping mismatches type")) == []


def test_the_process_ends_with_the_problems_and_no_traceback():
    code = (
        "import dagster as dg; from zrag_pipeline.platform.config_errors import explain_config_problems as explain; "
        "explain(); job = dg.job(name='j')(lambda: None); "
        "job.execute_in_process(run_config={'resourcs': {}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 1
    assert lines[-2] == "the configuration cannot be used: 1 problem"
    assert 'unexpected config entry "resourcs"' in lines[-1]
    assert "Traceback" not in done.stderr
