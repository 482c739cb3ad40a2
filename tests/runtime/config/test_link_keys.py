"""Keys of encrypted links in a configuration: what they look like, and that the secret one is not shown."""

from pathlib import Path

import pytest

from sz_protocol.codec import MAX_BYTES
from sz_runtime.config import Config, ConfigError, effective, parse_config

KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
SECRET = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
SERVER = "components: {handlers: {remote: {registration_server: {%s}}}}"


def client(keys: str) -> str:
    return f"components: {{zmq_client: {{enabled: true, server_address: 'tcp://c:1', {keys}}}}}"


def errors(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environ=environ)
    return [problem.message for problem in caught.value.problems]


def everything_shown(config: Config) -> str:
    return repr([config, config.components, config.redacted_dict(), effective(config), config.origins])


def test_a_client_with_its_keys(tmp_path: Path) -> None:
    secret = tmp_path / "edge.secret"
    secret.write_text(f"{SECRET}\n")
    config = parse_config(client(f"server_public_key: '{KEY}', secret_key: 'file:{secret}'"))
    found = config.components.zmq_client
    assert (found.server_public_key, found.secret_key) == (KEY, SECRET)
    assert SECRET not in everything_shown(config)
    assert SECRET not in config.hider()(f"the key {SECRET} was refused")
    assert KEY in everything_shown(config)


def test_a_secret_key_may_come_from_the_environment_by_reference() -> None:
    config = parse_config(client(f"server_public_key: '{KEY}', secret_key: '${{EDGE}}'"), environ={"EDGE": SECRET})
    assert config.components.zmq_client.secret_key == SECRET
    assert SECRET not in everything_shown(config)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (f"server_public_key: '{KEY}'", "is missing, but server_public_key is given: a link is encrypted with both"),
        ("secret_key: '${S}'", "is missing, but secret_key is given: a link is encrypted with both"),
        (f"server_public_key: '{KEY}', secret_key: '{SECRET}'", "must not stand here itself; it has to be"),
        (f"server_public_key: '{KEY[1:]}', secret_key: '${{S}}'", "is no public key: 40 characters"),
        ("server_public_key: 7, secret_key: '${S}'", "is the number 7, but has to be text"),
        (f"server_public_key: '{KEY}', secret_key: '${{PUB}}'", "${PUB} stands for does not fit: it has to be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_without_a_secret(keys: str, message: str) -> None:
    (found,) = errors(client(keys), S=SECRET, PUB="public_key: x")
    assert message in found
    assert SECRET not in found


def test_the_server_s_keys_lie_beside_the_deployment() -> None:
    config = parse_config("deployment: {name: office}")
    server = config.components.handlers.remote.registration_server
    assert (server.keys, server.allow_insecure) == ("deployments/office/keys", False)
    assert (server.max_frame, server.max_connections) == (MAX_BYTES, 1024)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("max_frame: 1000", "is the number 1000, but has to be from 1048576 to 4194304"),
        ("max_frame: '1048576'", "has to be a number of bytes; take away the quotes"),
        ("max_connections: 0", "has to be from 1 to"),
        ("allow_insecure: 'no'", "has to be true or false"),
    ],
)
def test_odd_bounds_of_a_server_are_refused(keys: str, message: str) -> None:
    (found,) = errors(SERVER % keys)
    assert message in found
