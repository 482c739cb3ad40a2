"""Secrets by reference, and that nothing shows them."""

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import pytest

from sz_runtime.config import Config, ConfigError, effective, parse_config
from sz_runtime.config.secret_text import SecretText, hider, without_password

POSTGRES = "components: {scheduler: {datastore: {type: postgresql, url: 'URL'}}}"
SECRET = "s3cr3t-value"


def load(url: str, **environ: str) -> Config:
    return parse_config(POSTGRES.replace("URL", url), environ=environ)


def everything_shown(config: Config) -> str:
    return repr([config, config.components, config.redacted_dict(), effective(config), config.warnings, config.origins])


def test_a_variable_inside_a_text() -> None:
    config = load("postgresql://${USER_}:${PASSWORD}@h/d", USER_="me", PASSWORD=SECRET)
    assert config.components.scheduler.datastore.url == f"postgresql://me:{SECRET}@h/d"
    assert SECRET not in everything_shown(config)
    shown = config.redacted_dict()["components"]["scheduler"]["datastore"]["url"]
    assert shown == "postgresql://${USER_}:***@h/d"


def test_a_file_as_a_whole(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"postgresql://me:{SECRET}@h/d\n")
    config = load(f"file:{secret}")
    assert config.components.scheduler.datastore.url == f"postgresql://me:{SECRET}@h/d"
    assert SECRET not in everything_shown(config)
    assert config.redacted_dict()["components"]["scheduler"]["datastore"]["url"] == f"file:{secret}"


def test_a_password_in_the_file_itself_is_hidden_too() -> None:
    config = load(f"postgresql://me:{SECRET}@h/d")
    assert SECRET not in everything_shown(config)
    assert config.redacted_dict()["components"]["scheduler"]["datastore"]["url"] == "postgresql://me:***@h/d"


def test_references_anywhere_in_lists_and_options() -> None:
    text = "scheduler: {datastore: {options: {a: ['${APP}']}}}, handlers: {local: {modules: ['${APP}.tasks']}}"
    config = parse_config(f"components: {{{text}}}", environ={"APP": SECRET.replace("-", "_")})
    assert config.components.handlers.local.modules == (f"{SECRET.replace('-', '_')}.tasks",)
    assert config.components.scheduler.datastore.options == {"a": [SECRET.replace("-", "_")]}
    assert "s3cr3t" not in everything_shown(config)


def test_references_from_the_environment_and_from_flags() -> None:
    environ = {"SCHEDULEZERO__DEPLOYMENT__NAME": "${NAME}", "NAME": "n", "HOST_": "h.example"}
    config = parse_config("{}", environ=environ, overrides={"tornado.host": "${HOST_}"})
    assert (config.deployment.name, config.components.tornado.host) == ("n", "h.example")


def test_an_escaped_reference_is_text() -> None:
    config = parse_config("components: {scheduler: {datastore: {path: 'a$${b}c$d'}}}")
    assert config.components.scheduler.datastore.path == "a${b}c$d"


def test_a_deployment_named_by_a_variable_has_its_database_there() -> None:
    config = parse_config("deployment: {name: '${NAME}'}", environ={"NAME": "edge7"})
    assert config.components.scheduler.datastore.path == "deployments/edge7/schedulezero_jobs.db"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://${PASWORD}@h", 'the environment variable PASWORD is not set; did you mean "PASSWORD"?'),
        ("postgresql://${PASSWORD", 'holds "${" without "}"; write $${ where ${ is meant as text'),
        ("postgresql://${a b}", '"${a b}" names no environment variable'),
        ("${}", "names no environment variable"),
        ("file:", "needs a path"),
        ("file:/nowhere/at/all", 'the file "/nowhere/at/all" cannot be read: No such file or directory'),
        ("file:/", "cannot be read: Is a directory"),
    ],
)
def test_what_a_reference_lacks_is_said_at_its_line(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(url, PASSWORD=SECRET)
    (problem,) = caught.value.problems
    assert str(problem).startswith("config.yaml:1: components.scheduler.datastore.url: ")
    assert message in problem.message


@pytest.mark.parametrize(("data", "message"), [(b"\xff", "is not UTF-8"), (b"x" * 70_000, "too large for a secret")])
def test_odd_secret_files(tmp_path: Path, data: bytes, message: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load(f"file:{secret}")


def test_a_reference_whose_value_does_not_fit_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("components: {tornado: {host: '${X}', port: '${X}'}}", environ={"X": f"{SECRET} "})
    host, port = caught.value.problems
    assert host.message == 'what ${X} stands for does not fit: it has to be a host name or address, such as "127.0.0.1"'
    assert (
        "has to be a port number; a reference gives text, but SCHEDULEZERO__TORNADO__PORT in the environment"
        in port.message
    )
    assert SECRET not in str(caught.value)


def test_messages_about_a_url_do_not_repeat_it() -> None:
    for text in (POSTGRES.replace("URL", f"mysql://u:{SECRET}@h"), POSTGRES.replace("URL", f"u:{SECRET}@h")):
        with pytest.raises(ConfigError) as caught:
            parse_config(text)
        assert SECRET not in str(caught.value)


def test_references_of_a_preset_that_is_not_used_need_not_resolve() -> None:
    parse_config("presets: {minimal: {components: {tornado.host: '${NOT_SET}'}}}")
    with pytest.raises(ConfigError, match="NOT_SET is not set"):
        parse_config("presets: {full: {components: {tornado.host: '${NOT_SET}'}}}")


def test_schedules_keep_their_text() -> None:
    text = "schedules: [{id: s, handler_id: h, method: m, trigger: {type: interval, minutes: 1}, params: {a: '${X}'}}]"
    assert parse_config(text, environ={"X": SECRET}).schedules[0].params == {"a": "${X}"}


def test_secret_text_is_its_value_and_shows_its_reference() -> None:
    secret = SecretText(SECRET, "${X}")
    assert (secret, f"{secret}", hash(secret)) == (SECRET, SECRET, hash(SECRET))
    assert repr(secret) == "'${X}'"
    assert os.path.join(secret, "a") == f"{SECRET}/a"
    for copied in (copy.deepcopy(secret), pickle.loads(pickle.dumps(secret))):
        assert copied == SECRET
        assert SECRET not in repr(copied)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("postgresql+x://u:p%40w@h/d?a=b", "postgresql+x://u:***@h/d?a=b"),
        ("a redis://u:p@h and mqtt://v:q@i", "a redis://u:***@h and mqtt://v:***@i"),
        ("http://h/u:p@x", "http://h/u:p@x"),
        ("tcp://h:5555", "tcp://h:5555"),
        ("redis://u:a@b@h", "redis://u:***@h"),
    ],
)
def test_passwords_of_urls(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_keys_that_sound_like_secrets_are_hidden_in_options() -> None:
    text = (
        "components: {scheduler: {datastore: {options: {api_key: abc, nested: {Password: abc, user: me, token: 3}}}}}"
    )
    shown: Any = parse_config(text).redacted_dict()["components"]["scheduler"]["datastore"]["options"]
    assert shown == {"api_key": "***", "nested": {"Password": "***", "user": "me", "token": 3}}


@pytest.mark.parametrize("secret", ['it\'s \\ "it"', "line\nline", "p@ss/w:rd é", "p%40ss", "plain", "\0\x1b\ud800x"])
def test_a_secret_is_known_in_other_spellings(secret: str) -> None:
    hide = hider([SecretText(secret)])
    spelt = [secret, repr(KeyError(secret)), json.dumps({"key": secret}), repr([secret]), f"x{secret}y"]
    if not any("\ud800" <= letter <= "\udfff" for letter in secret):
        spelt += [f"https://h/?q={quote(secret, safe='')}&n={quote_plus(secret)}", unquote(secret)]
    for text in spelt:
        shown = hide(text)
        assert "***" in shown
        for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]):
            assert form not in shown


def test_a_configuration_takes_its_secrets_out_of_texts_of_others() -> None:
    config = parse_config(
        "components:\n"
        "  scheduler: {datastore: {type: postgresql, url: 'postgresql://u:${PW}@db/x', options: {api_key: k3yk3y}}}\n"
        "  event_broker: {redis_url: 'redis://:literally@h', mqtt_url: '${WHOLE}', members: ['${SHORT}']}\n",
        environ={"PW": "hunter2", "WHOLE": "mqtt://me:inside@broker", "SHORT": "abc"},
    )
    hide = config.hider()
    assert hide("auth failed for hunter2 / k3yk3y / literally / inside, abc") == (
        "auth failed for *** / *** / *** / ***, abc"
    )
    assert hide("mqtt://me:inside@broker and ftp://a:other@b") == "*** and ftp://a:***@b"
    assert hide("nothing of the kind") == "nothing of the kind"
