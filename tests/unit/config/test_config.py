import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from p2petd.config import CONFIG_BYTES_MAX, ClientSection, check_config, load_config, render_defaults
from p2petd.errors import ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "node_defaults.toml"
NODE = '[node]\nname = "CN=Alice,O=Alice,C=DE"\n'


def written(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(directory: Path, text: str) -> str:
    path = written(directory, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_defaults_are_golden() -> None:
    assert render_defaults() == GOLDEN.read_text(encoding="utf-8")


def test_the_rendered_defaults_are_the_defaults(tmp_path: Path) -> None:
    rendered = load_config(written(tmp_path, render_defaults()))
    bare = load_config(written(tmp_path, NODE + "[notary]\n[oracle]\n"))
    assert rendered == bare


def test_every_key_has_a_comment() -> None:
    lines = render_defaults().splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.startswith(("#", "["))]
    assert keys
    assert all(lines[number - 1].startswith("# ") for number in keys)


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, NODE + '[client]\ntoken_file = "/etc/token"\n'))
    assert config.node.data_directory == tmp_path / "data"
    assert config.network.root_certificate == tmp_path / "../network/root.crt"
    assert config.client.token_file == Path("/etc/token")
    assert load_config(tmp_path) == config
    assert config.notary is None


def test_the_model_is_frozen(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, NODE))
    with pytest.raises(ValidationError):
        config.peer.listen = "0.0.0.0:1"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "[node]: is missing; write it"),
        ("[node]\n", "[node] name: is missing; write it"),
        (NODE + '[peer]\nlistne = "0.0.0.0:1"\n', "[peer] listne: unknown key, did you mean listen?"),
        (NODE + "[per]\n", "[per]: unknown section, did you mean peer?"),
        (NODE + "[log]\nx = 1\n", "[log] x: unknown key, known are level"),
        (NODE + "[peer]\nlisten = 7500\n", "[peer] listen: should be text in quotes"),
        (NODE + '[peer]\nlisten = "7500"\n', '[peer] listen: should be an address such as "0.0.0.0:7500"'),
        (NODE + '[peer]\nlisten = "0.0.0.0:65536"\n', "[peer] listen: should be an address"),
        (NODE + '[notary]\nbatch_max = "256"\n', "[notary] batch_max: should be a whole number without quotes"),
        (NODE + "[notary]\nbatch_max = true\n", "[notary] batch_max: should be a whole number"),
        (NODE + "[notary]\nbatch_max = 0\n", "[notary] batch_max: should be greater than or equal to 1"),
        (NODE + "[notary]\nbatch_max = 1025\n", "[notary] batch_max: should be less than or equal to 1024"),
        (NODE + "[store]\nsegment_bytes = 1\n", "[store] segment_bytes: should be greater than"),
        (NODE + "[identity]\nkey_file = 1\n", "[identity] key_file: should be a path in quotes"),
        (NODE + '[log]\nlevel = "loud"\n', "[log] level: should be 'debug', 'info', 'warning' or 'error'"),
        ("node = 1\n", "[node]: should be a section"),
        ("[node\n", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_remedy(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refused(tmp_path, text)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, NODE + '[peer]\nlistne = "x"\n[log]\nlevel = "loud"\n')
    assert "[peer] listne" in message
    assert "[log] level" in message


def test_missing_or_oversize_files_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(ConfigError, match="does not exist"):
            load_config(path)
    filler = "#" * (CONFIG_BYTES_MAX - len(NODE))
    load_config(written(tmp_path, NODE + filler))
    assert "more than" in refused(tmp_path, NODE + filler + "#")
    path = tmp_path / "node.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(path)


def test_check_names_every_file_that_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[identity\] key_file: .*identity\.key does not exist") as caught:
        check_config(written(tmp_path, NODE))
    assert "[network] root_certificate" in str(caught.value)
    assert "data_directory" not in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False), ("host.example:1", False)],
)
def test_loopback_is_recognised(listen: str, loopback: bool) -> None:
    assert ClientSection(listen=listen).is_loopback is loopback


def test_defaults_are_toml() -> None:
    assert set(tomllib.loads(render_defaults())["client"]) == {"listen", "token_file", "users"}


USER = '[[client.users]]\nname = "auditor"\ntoken_file = "auditor.token"\npermissions = ["vault", "notary"]\n'


def test_n17_users_of_the_client_listener_have_permissions(tmp_path: Path) -> None:
    (user,) = load_config(written(tmp_path, NODE + USER)).client.users
    assert (user.name, user.permissions) == ("auditor", ("vault", "notary"))
    assert user.token_file == tmp_path / "auditor.token"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('permissions = ["valt"]', "[client] users.0.permissions.0"),
        ("permission = []", "did you mean permissions?"),
        ("", "[client] users.0.permissions: is missing"),
    ],
)
def test_n17_a_user_with_a_wrong_permission_is_refused(tmp_path: Path, wrong: str, sentence: str) -> None:
    text = USER.replace('permissions = ["vault", "notary"]', wrong)
    assert sentence in refused(tmp_path, NODE + text)


def test_n17_a_users_token_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(written(tmp_path, NODE + USER))
    assert f"[client.users] token_file: {tmp_path / 'auditor.token'} does not exist" in str(caught.value)
