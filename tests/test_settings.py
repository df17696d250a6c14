import pytest

from zrag_core.errors import ProblemList, SettingsError
from zrag_core.settings import Settings, load_settings


def test_defaults_are_valid():
    assert load_settings({}) == Settings()


def test_every_problem_at_once_each_with_its_field():
    with pytest.raises(ProblemList) as caught:
        load_settings(
            {
                "trainin": {},
                "training": {"step": 3, "lr_theta": "fast", "token_dropout": 1.5},
                "corpus": {"format": "squad", "splits": {"dev": 0.6, "test": 0.6}},
            }
        )
    text = str(caught.value)
    for expected in (
        "trainin: unknown field -> did you mean 'training'?",
        "training.step: unknown field -> did you mean 'steps'?",
        "training.lr_theta: Input should be a valid number",
        "training.token_dropout: Input should be less than or equal to 1 (given: 1.5)",
        "corpus.splits: dev + test must be below 1",
    ):
        assert expected in text
    assert len(caught.value.problems) == 5


def test_one_problem_is_one_line():
    with pytest.raises(SettingsError, match=r"^corpus: format 'squad' needs a location") as caught:
        load_settings({"corpus": {"format": "squad"}})
    assert "\n" not in str(caught.value)


def test_location_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_CORPUS", "/somewhere")
    values = {"corpus": {"format": "native", "location": {"env": "MY_CORPUS"}}}
    assert load_settings(values).corpus.location == "/somewhere"
    monkeypatch.delenv("MY_CORPUS")
    with pytest.raises(SettingsError, match="MY_CORPUS is not set; export MY_CORPUS="):
        load_settings(values)


def test_the_answered_budget_must_be_measured():
    with pytest.raises(SettingsError, match=r"answers\.budget 100"):
        load_settings({"answers": {"budget": 100}})


def test_unknown_systems_are_named():
    with pytest.raises(SettingsError, match=r"evaluation\.systems\.1"):
        load_settings({"evaluation": {"systems": ["bm25", "bm52"]}})


def test_every_field_says_what_it_is():
    def undocumented(model, path=""):
        for name, field in model.model_fields.items():
            nested = getattr(field.annotation, "model_fields", None)
            if nested is not None:
                assert field.annotation.__doc__
                yield from undocumented(field.annotation, f"{path}{name}.")
            elif not field.description:
                yield path + name

    assert list(undocumented(Settings)) == []
