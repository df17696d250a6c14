import dagster as dg
import pytest
import yaml
from dagster._config import ConfigTypeKind

from zrag_core.errors import ProblemList, SettingsError
from zrag_core.settings import Settings
from zrag_core.systems import SYSTEMS
from zrag_pipeline.platform.settings_resource import settings_resource


def run_with(config: str | None):
    """Run a job whose resource is configured by YAML text; return what its asset gets."""
    seen = []

    @dg.asset(required_resource_keys={"settings"})
    def preflight(context) -> None:
        seen.append(context.resources.settings)

    job = dg.Definitions(
        assets=[preflight],
        jobs=[dg.define_asset_job("job", executor_def=dg.in_process_executor)],
        resources={"settings": settings_resource},
    ).resolve_job_def("job")
    given = {} if config is None else {"resources": {"settings": {"config": yaml.safe_load(config)}}}
    assert job.execute_in_process(run_config=given).success
    return seen[0]


@pytest.mark.parametrize("config", [None, "{}", "null", "corpus:\nevaluation: {}\nbackbone: {lora: null}"])
def test_what_is_left_out_takes_its_default(config):
    assert run_with(config).load() == Settings()


def test_values_of_every_kind_arrive_unchanged(monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_CORPUS", str(tmp_path))
    handle = run_with("""
        corpus: {format: auto, location: {env: ZRAG_CORPUS}, name: 말뭉치, splits: {dev: 0.2}}
        joint: {steps: null, epochs: 5}
        evaluation: {budgets: [64, 256], systems: [bm25]}
        backbone: {lora: {target_modules: [q_proj]}}
    """)
    assert handle.raw["corpus"]["location"] == {"env": "ZRAG_CORPUS"}
    settings = handle.load()
    assert settings.corpus.location == str(tmp_path)
    assert settings.corpus.name == "말뭉치"
    assert (settings.corpus.splits.dev, settings.corpus.splits.test) == (0.2, Settings().corpus.splits.test)
    assert (settings.joint.steps, settings.joint.epochs) == (None, 5)
    assert settings.evaluation.budgets == (64, 256)
    assert settings.backbone.lora.target_modules == ("q_proj",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("corpus: {formt: auto}", "corpus.formt: unknown field -> did you mean 'format'?"),
        ("corpse: {}", "corpse: unknown field -> did you mean 'corpus'?"),
        ("joint: {batch_size: 0}", "joint.batch_size: Input should be greater than 0 (given: 0)"),
        ("backbone: {lora: {rank: many}}", "backbone.lora.rank"),
        ("separated: {slots: null}", "separated.slots: Input should be a valid integer (given: None)"),
    ],
)
def test_bad_settings_reach_load_and_get_its_message(config, message):
    handle = run_with(config)
    with pytest.raises(SettingsError) as caught:
        handle.load()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_problems_are_reported_together():
    with pytest.raises(ProblemList) as caught:
        run_with("{corpus: {formt: auto}, separated: {slots: -1}, answers: {temperature: hot}}").load()
    assert len(caught.value.problems) == 3


def leaves(model, prefix=()):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings.__bases__[0]):
            yield from leaves(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name), field


def test_launchpad_shows_every_field_with_its_documentation():
    root = settings_resource.config_schema.config_type
    for path, field in leaves(Settings):
        shape = root
        for name in path:
            assert shape.kind == ConfigTypeKind.NONEABLE
            found = shape.inner_type.fields[name]
            assert not found.is_required
            assert not found.default_provided, "defaults live in Settings alone"
            shape = found.config_type
        assert field.description in found.description, path
        assert "default: " in found.description, path
    shape = root.inner_type.fields["corpus"].config_type.inner_type
    assert "one of auto, almanac, native" in shape.fields["format"].description
    assert 'default: "almanac"' in shape.fields["format"].description
    evaluation = root.inner_type.fields["evaluation"].config_type.inner_type
    for name in ("systems", "reference"):
        assert f"one of {', '.join(SYSTEMS)};" in evaluation.fields[name].description
    assert "one of zrag, zrag_free, zrag_joint" in evaluation.fields["systems"].description
    assert "one of train, dev, test" in evaluation.fields["splits"].description
    assert "one of 1, 2;" in root.inner_type.fields["decoding"].config_type.inner_type.fields["steps"].description
