"""Which reader answers, by settings and environment."""

from __future__ import annotations

import pytest
from faulty_server import Reply, serving

from zrag_core.answering.choice import choose_reader
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

KEY = {"OPENAI_API_KEY": "k"}


@pytest.mark.parametrize(
    ("settings", "environ", "name"),
    [
        ({}, {}, "offline"),
        ({}, {"OPENAI_API_KEY": " \n"}, "offline"),
        ({}, KEY, "openai"),
        ({"reader": "offline"}, KEY, "offline"),
        ({"reader": "openai"}, KEY, "openai"),
        ({"reader": "openai", "base_url": "http://127.0.0.1:9/v1"}, {}, "openai"),
        ({"api_key_env": "MY_KEY"}, KEY, "offline"),
        ({"api_key_env": "MY_KEY"}, {"MY_KEY": "k"}, "openai"),
    ],
)
def test_choice(settings, environ, name):
    assert choose_reader(AnswerSettings(**settings), environ).name == name


def test_openai_without_a_key_says_which_variable_to_set():
    with pytest.raises(AnsweringError, match="export MY_KEY="):
        choose_reader(AnswerSettings(reader="openai", api_key_env="MY_KEY"), KEY)


def test_openai_is_the_default_address_and_others_are_named():
    assert choose_reader(AnswerSettings(), KEY).endpoint == "https://api.openai.com/v1"
    assert choose_reader(AnswerSettings(), KEY | {"OPENAI_BASE_URL": "http://h:1/v1"}).endpoint == "http://h:1/v1"
    both = choose_reader(AnswerSettings(base_url="http://a:2/v1/"), KEY | {"OPENAI_BASE_URL": "http://h:1/v1"})
    assert both.endpoint == "http://a:2/v1"


def test_the_cache_file_is_made_only_where_a_model_is_asked(tmp_path):
    path = tmp_path / "answers.sqlite"
    choose_reader(AnswerSettings(), {}, path)
    assert not path.exists()
    request = AnswerRequest("q", "s", "Who?", "Ada.")
    with serving(lambda *_: Reply(text="Ada")) as server:
        for cached in (False, True):
            reader = choose_reader(AnswerSettings(base_url=server.url), KEY, path)
            assert reader.answer([request])[0].cached is cached
