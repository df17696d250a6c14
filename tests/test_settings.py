import re

import pytest
from pydantic import ValidationError

from zrag_core.errors import ProblemList, SettingsError
from zrag_core.settings import AnswerSettings, Settings, load_settings
from zrag_core.settings.former_names import REMOVED, RENAMED


def test_defaults_are_valid():
    assert load_settings({}) == Settings()


def test_every_problem_at_once_each_with_its_field():
    with pytest.raises(ProblemList) as caught:
        load_settings(
            {
                "decodin": {},
                "joint": {"step": 3, "lr_theta": "fast", "token_dropout": 1.5},
                "corpus": {"format": "squad", "splits": {"dev": 0.6, "test": 0.6}},
            }
        )
    text = str(caught.value)
    for expected in (
        "decodin: unknown field -> did you mean 'decoding'?",
        "joint.step: unknown field -> did you mean 'steps'?",
        "joint.lr_theta: Input should be a valid number",
        "joint.token_dropout: Input should be less than or equal to 1 (given: 1.5)",
        "corpus.splits: dev + test must be below 1",
    ):
        assert expected in text
    assert len(caught.value.problems) == 5


def test_one_problem_is_one_line():
    with pytest.raises(SettingsError, match=r"^corpus: format 'squad' needs a location") as caught:
        load_settings({"corpus": {"format": "squad"}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("former", "present"), RENAMED.items())
def test_a_renamed_field_names_the_new_one(former, present):
    section, _, name = former.partition(".")
    with pytest.raises(SettingsError) as caught:
        load_settings({section: {name: 3} if name else None})
    assert str(caught.value) == f"{former}: renamed -> give {present}"
    tree = Settings().model_dump()
    for place in re.findall(r"\b(\w+)\.(\w+)\b", present.replace(former, "")):
        if place[0] != section:
            assert place[1] in tree[place[0]], "there is such a field"


@pytest.mark.parametrize("former", REMOVED)
def test_a_removed_field_says_what_holds_now(former):
    section, name = former.split(".")
    with pytest.raises(SettingsError, match=rf"^{re.escape(former)}: no longer a setting -> leave it out \(\w"):
        load_settings({section: {name: 3}})


def test_a_former_section_is_answered_field_by_field():
    with pytest.raises(ProblemList) as caught:
        load_settings({"training": {"threads": 2, "lr_theta": 0.1, "unheard": 1}})
    assert caught.value.problems == [
        "training.threads: renamed -> give backbone.threads",
        "training.lr_theta: renamed -> give joint.lr_theta",
        "training.unheard: unknown field",
    ]


def test_location_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_CORPUS", "/somewhere")
    values = {"corpus": {"format": "native", "location": {"env": "MY_CORPUS"}}}
    assert load_settings(values).corpus.location == "/somewhere"
    monkeypatch.delenv("MY_CORPUS")
    with pytest.raises(SettingsError, match="MY_CORPUS is not set; export MY_CORPUS="):
        load_settings(values)
    values["skill"] = {"corpus": {"env": "MY_CORPUS", "default": None}}
    values["corpus"]["location"]["default"] = "/elsewhere"
    settings = load_settings(values)
    assert (settings.corpus.location, settings.skill.corpus) == ("/elsewhere", None)
    monkeypatch.setenv("MY_CORPUS", "/somewhere")
    assert load_settings(values).skill.corpus == "/somewhere"


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


@pytest.mark.parametrize("value", [None, 7, ["A"], {"a": 1}, "", "A B", "1A", "$A", "A=b", "PATH\n"])
def test_only_a_variable_name_can_be_read_from_the_environment(value):
    with pytest.raises(SettingsError, match=r"corpus\.location: env takes the name of an environment variable"):
        load_settings({"corpus": {"format": "native", "location": {"env": value}}})


@pytest.mark.parametrize("value", [["a", "b"], 3, {"env": "A", "b": 1}])
def test_a_location_that_is_none_is_one_line(value):
    with pytest.raises(SettingsError, match=r"corpus\.location: Input should be a valid string"):
        load_settings({"corpus": {"format": "native", "location": value}})


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("evaluation", {"systems": []}, r"evaluation\.systems: .*at least 1 item"),
        ("evaluation", {"splits": []}, r"evaluation\.splits: .*at least 1 item"),
        ("evaluation", {"budgets": []}, r"evaluation\.budgets: .*at least 1 item"),
        ("evaluation", {"systems": ["bm25", "dense", "bm25"]}, r"evaluation\.systems: named more than once: bm25$"),
        ("evaluation", {"splits": ["test", "test"]}, r"evaluation\.splits: named more than once: test$"),
        ("evaluation", {"budgets": [256, 64, 256, 64]}, r"evaluation\.budgets: named more than once: 256, 64$"),
        (
            "joint",
            {"evidence_weight": 0, "reconstruction_weight": 0, "routing_weight": 0},
            "joint: .* are all 0; nothing would be learned",
        ),
    ],
)
def test_nothing_to_do_and_the_same_twice_are_refused(section, values, message):
    with pytest.raises(SettingsError, match=message):
        load_settings({section: values})


def test_one_loss_is_enough():
    for only in ("evidence_weight", "reconstruction_weight", "routing_weight"):
        weights = dict.fromkeys(("evidence_weight", "reconstruction_weight", "routing_weight"), 0.0)
        assert load_settings({"joint": weights | {only: 0.1}})


SECRET = "sk-proj-hunter2"


@pytest.mark.parametrize(
    "answers",
    [
        {"api_key_env": SECRET},
        {"api_key_env": f"OPENAI_API_KEY={SECRET}"},
        {"api_key_env": [SECRET]},
        {"api_key": SECRET},
        {"base_url": f"https://alice:{SECRET}@host/v1"},
        {"base_url": f"alice:{SECRET}@host/v1"},
        {"base_url": f"https://alice:{SECRET}/x@host/v1"},
        {"base_url": f"https://{SECRET}@host:99999999/v1"},
        {"base_url": f"https://host/v1?key={SECRET}"},
        {"base_url": f"https://host/v1#{SECRET}"},
        {"base_url": [f"https://alice:{SECRET}@host/v1"]},
    ],
)
def test_keys_and_passwords_are_refused_and_never_repeated(answers):
    with pytest.raises(SettingsError) as caught:
        load_settings({"answers": answers})
    assert str(caught.value).startswith(f"answers.{next(iter(answers))}: ")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValidationError) as raw:
        AnswerSettings.model_validate(answers)
    assert "hunter2" not in str(raw.value)


def test_what_is_refused_says_where_the_key_belongs():
    with pytest.raises(SettingsError, match=r"environment variable.*export the key as OPENAI_API_KEY"):
        load_settings({"answers": {"api_key_env": SECRET}})
    with pytest.raises(SettingsError, match=r"put the key into the environment variable that api_key_env names"):
        load_settings({"answers": {"base_url": f"https://alice:{SECRET}@host/v1"}})


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:8000/v1", "https://[::1]:8/v1/", "http://서버/v1"])
def test_plain_addresses_and_variable_names_are_taken(url):
    answers = load_settings({"answers": {"base_url": url, "api_key_env": "_My_Key2"}}).answers
    assert (answers.base_url, answers.api_key_env) == (url, "_My_Key2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"evaluation": {"systems": ["zrag", "bm25"], "reference": "dense"}},
            "evaluation: reference 'dense' is not one of systems",
        ),
        ({"evaluation": {"confidence": 0.999}}, "evaluation.confidence: Input should be less than or equal to 0.99"),
        ({"answers": {"curve_budgets": [64, 96]}}, "answers.curve_budgets: 96 is not one of evaluation.budgets"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_run(values, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(values)


def test_a_reference_and_budgets_of_the_curve():
    loaded = load_settings({"evaluation": {"reference": "bm25"}, "answers": {"curve_budgets": [64, 512]}})
    assert loaded.evaluation.reference == "bm25"
    assert loaded.answers.curve_budgets == (64, 512)


def test_updates_take_shares_and_seconds_and_name_what_is_wrong():
    updates = load_settings({"updates": {"settle_seconds": 0, "retrain_share": 1}}).updates
    assert (updates.settle_seconds, updates.retrain_share) == (0, 1)
    assert (updates.least_margin_share, updates.coverage_drop, updates.non_inferiority) == (0.5, 0.05, 0.02)
    assert updates.old_sample == 100
    with pytest.raises(ProblemList) as caught:
        load_settings({"updates": {"settle_seconds": -1, "retrain_share": 30, "old_sample": 0, "settle": 1}})
    text = str(caught.value)
    for expected in (
        "updates.settle_seconds: Input should be greater than or equal to 0 (given: -1)",
        "updates.retrain_share: Input should be less than or equal to 1 (given: 30)",
        "updates.old_sample: Input should be greater than 0 (given: 0)",
        "updates.settle: unknown field -> did you mean 'settle_seconds'?",
    ):
        assert expected in text


@pytest.mark.parametrize("given", [["a", "b"], 3, "auto", True])
def test_what_is_no_section_is_one_line(given):
    with pytest.raises(SettingsError, match=r"^corpus: a section belongs here, with fields of its own") as raised:
        load_settings({"corpus": given})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_are_finite(number):
    for values in ({"answers": {"max_cost_usd": number}}, {"updates": {"settle_seconds": number}}):
        with pytest.raises(SettingsError, match="should be a finite number"):
            load_settings(values)


@pytest.mark.parametrize(
    "values",
    [
        {"answers": {"reader": "sk-0123abcdefghij"}},
        {"answers": {"model": "sk-0123abcdefghij"}},
        {"answers": {"sk-0123abcdefghij": "x"}},
        {"sk-0123abcdefghij": {}},
        {"corpus": {"format": "native", "location": "x", "name": "sk-0123abcdefghij"}},
        {"evaluation": {"systems": ["bm25", "sk-0123abcdefghij"]}},
        {"answers": {"temperature": "sk-0123abcdefghij"}},
    ],
)
def test_a_key_in_a_wrong_field_is_not_repeated(values):
    with pytest.raises(SettingsError) as raised:
        load_settings(values)
    assert "0123abcdefghij" not in str(raised.value)
    assert "not shown" in str(raised.value)


def test_a_secret_is_no_place(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123abcdefghij")
    with pytest.raises(SettingsError, match=r"corpus\.location: OPENAI_API_KEY names a secret"):
        load_settings({"corpus": {"format": "auto", "location": {"env": "OPENAI_API_KEY"}}})


def test_control_characters_are_refused():
    with pytest.raises(SettingsError, match=r"^corpus\.name: holds a control character"):
        load_settings({"corpus": {"format": "native", "location": "x", "name": "a\0b"}})
