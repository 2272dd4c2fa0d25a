import json
import os
from pathlib import Path
from typing import Any

import pytest

from locktender.config import FILE_NAME, read_environment, read_settings
from locktender.core.errors import ConfigError
from locktender.http.settings import ConnectionSettings, Doors, DoorSettings
from locktender.model.service import ServiceSettings
from locktender.model.settings import GateSettings, ModelSettings, SupervisionSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with an environment that sets nothing of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("LOCKTENDER_"):
            monkeypatch.delenv(name)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_the_defaults_of_the_wings_hold() -> None:
    settings = read_settings(None)
    assert (settings.host, settings.model_port, settings.models) == ("127.0.0.1", 8001, {})
    assert settings.service == ServiceSettings()
    assert settings.model("m") == ModelSettings("m", source="m")


def test_the_file_of_the_folder_is_read(folder: Path) -> None:
    write(folder, "model_port = 9000")
    assert read_settings(None).model_port == 9000


def test_a_file_that_is_named_is_read_instead_of_that_of_the_folder(folder: Path) -> None:
    write(folder, "model_port = 9000\nhost = '0.0.0.0'")
    other = folder / "other.toml"
    other.write_text("model_port = 9001", encoding="utf-8")
    settings = read_settings(other)
    assert (settings.model_port, settings.host) == (9001, "127.0.0.1")


def test_the_environment_wins_over_the_file_and_flags_over_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "host = 'file'\nmodel_port = 1\ndrain_s = 1.0")
    monkeypatch.setenv("LOCKTENDER_MODEL_PORT", "2")
    monkeypatch.setenv("LOCKTENDER_DRAIN_S", "2")
    settings = read_settings(None, drain_s=3.0)
    assert (settings.host, settings.model_port, settings.drain_s) == ("file", 2, 3.0)


def test_a_flag_that_is_not_given_does_not_win(folder: Path) -> None:
    write(folder, "host = 'file'")
    assert read_settings(None, host=None).host == "file"


def test_the_environment_reaches_into_a_models_table_and_leaves_the_rest_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "[models.m]\nmax_running = 2\nmax_waiting = 3")
    monkeypatch.setenv("LOCKTENDER_MODELS__M__MAX_RUNNING", "4")
    gate = read_settings(None).model("m").gate
    assert (gate.max_running, gate.max_waiting) == (4, 3)


def test_a_models_table_is_handed_out_in_the_slices_of_the_model_layer(folder: Path) -> None:
    write(
        folder,
        """
        [models.small]
        source = "smollm2-135m-instruct"
        engine = "openvino"
        preset = "exact"
        max_running = 4
        max_wait_s = 5
        replicas = 2
        hang_s = 7.5
        [models.small.options]
        max_batched_tokens = 256
        prefix_cache = false
        """,
    )
    assert read_settings(None).model("small") == ModelSettings(
        name="small",
        source="smollm2-135m-instruct",
        engine="openvino",
        options=(
            ("max_batched_tokens", 256),
            ("prefix_cache", False),
            ("preset", "exact"),
        ),
        gate=GateSettings(max_running=4, max_wait_s=5.0),
        supervision=SupervisionSettings(replicas=2, hang_s=7.5),
    )


def test_the_services_slice_is_handed_out(folder: Path) -> None:
    write(
        folder,
        "max_body_bytes = 10\nmax_body_values = 5\nkeep_alive_s = 2.5\n"
        "max_unread_bytes = 9\nunread_s = 1.5",
    )
    assert read_settings(None).service == ServiceSettings(
        max_body_bytes=10,
        max_body_values=5,
        keep_alive_s=2.5,
        max_unread_bytes=9,
        unread_s=1.5,
    )


def test_every_setting_of_the_model_layer_can_be_set(folder: Path) -> None:
    kinds = (GateSettings, SupervisionSettings)
    names = sorted({name for kind in kinds for name in kind.__dataclass_fields__})
    values: dict[str, Any] = {name: 0.75 if name.startswith("batch") else 5 for name in names} | {
        "canary": False
    }
    written = (f"{name} = {str(value).lower()}" for name, value in values.items())
    write(folder, "[models.m]\n" + "\n".join(written))
    settings = read_settings(None).model("m")
    for part in (settings.gate, settings.supervision):
        for name in part.__dataclass_fields__:
            assert getattr(part, name) == values[name]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "hots = 'a'",
            "There is no setting `hots`. Is `host` meant?",
        ),
        (
            "[models.m]\nmax_runing = 2",
            "There is no setting `models.m.max_runing`. Is `max_running` meant?",
        ),
        (
            "model_port = 70000",
            "The setting `model_port` is wrong: input should be less than or equal to 65535.",
        ),
        (
            "[models.m]\nmax_running = [4]",
            "The setting `models.m.max_running` is wrong: input should be a valid integer.",
        ),
        (
            "models = 3",
            "The setting `models` is wrong: input should be a valid dictionary.",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_that_says_where_it_is(
    folder: Path, text: str, sentence: str
) -> None:
    write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_settings(None)
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_connections = true", "`max_connections` is wrong: must be a number, not true"),
        ("drain_s = nan", "`drain_s` is wrong: "),
        ("drain_s = inf", "`drain_s` is wrong: "),
        ("drain_s = 1e300", "`drain_s` is wrong: "),
        ("drain_notice_s = 1e300", "`drain_notice_s` is wrong: "),
        ("drain_notice_s = -1", "`drain_notice_s` is wrong: "),
        ("unread_s = -inf", "`unread_s` is wrong: "),
        ("threads = 0", "`threads` is wrong: "),
        ("threads = true", "`threads` is wrong: must be a number, not true"),
        ("host = ''", "`host` is wrong: "),
        ("host = 'http://127.0.0.1'", "`host` is wrong: it must be an address or a name of this"),
        ("host = '127.0.0.1:80'", "without scheme and port, not '127.0.0.1:80'"),
        ("host = '*'", "or `0.0.0.0` for all its networks"),
        ("model_host = 'http://a.example'", "`model_host` is wrong: it must be an address"),
        ("insecure = 1", "`insecure` is wrong: must be true or false, not 1"),
        ("access_log = 0", "`access_log` is wrong: must be true or false, not 0"),
        ("max_header_bytes = 1", "`max_header_bytes` must be a whole number, at least 256, not 1"),
        ("max_headers = 1", "`max_headers` must be a whole number, at least 8, not 1"),
        ("[models.m]\ncanary = 1", "`models.m.canary` is wrong: must be true or false, not 1"),
        (
            "[models.m.options]\ntokens_per_s = inf",
            "`models.m.options.tokens_per_s` is wrong: it must be a text, a finite number",
        ),
        ("[models.m.options]\nwords = [1]", "`models.m.options.words` is wrong: it must be a"),
        ("log_format = 'xml'", "`log_format` is wrong: "),
        ("[models.m]\nmax_running = true", "`models.m.max_running` is wrong: must be a number"),
        ("[models.m]\nbatch_share = false", "`models.m.batch_share` is wrong: must be a number"),
        ("[models.m]\nmax_wait_s = nan", "`models.m.max_wait_s` is wrong: "),
        ("[models.m]\nkv_tokens = 10", "write `kv_tokens` below `[models.m.options]`"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(
    folder: Path, text: str, sentence: str
) -> None:
    write(folder, text)
    with pytest.raises(ConfigError) as refused:
        read_settings(None)
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("backoff_s = -1", "`backoff_s` must be a number of seconds, at least 0"),
        ("source = ''", "`source` must not be empty"),
        ("engine = ' '", "`engine` must not be empty"),
        ("preset = ''", "`preset` must not be empty"),
        ("engine = 'openvinoo'", "There is no engine 'openvinoo': use one of echo, openvino"),
        ("engine = 'nowhere:Engine'", "The engine 'nowhere:Engine' is not installed"),
        ("preset = 'exactly'", "There is no preset 'exactly': use one of exact, fast."),
        ("engine = 'echo'\npreset = 'exact'", "The engine 'echo' has no option 'preset'"),
        ("preset = 'fast'\noptions = {preset = 'exact'}", "`preset` is set twice"),
        ("options = {kv_tokens = 10}", "'kv_tokens' must be a whole number, at least 64: not 10"),
        *(
            (f"engine = 'echo'\noptions = {{{name} = 1}}", f"'{name}' must be a whole number, at l")
            for name in ("kv_tokens", "context_tokens")
        ),
        ("replicas = 1000", "`replicas` must be a whole number, at least 1 and at most 64, not"),
        ("max_running = 1000000000", "`max_running` must be a whole number, at least 1 and at mo"),
        ("options = {kv_tokens = true}", "'kv_tokens' must be a whole number"),
        ("options = {kv_tokens = 1e9}", "'kv_tokens' must be a whole number"),
        ("options = {prefix_cache = 0}", "'prefix_cache' must be true or false"),
        ("engine = 'echo'\noptions = {step_s = -1}", "'step_s' must be a number, at least 0"),
        ("engine = 'transformers'\noptions = {dtype = 'int3'}", "There is no dtype 'int3'"),
        ("engine = 'transformers'\noptions = {device = ''}", "'device' must be a text"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused_before_it_is_served(
    folder: Path, table: str, sentence: str
) -> None:
    write(folder, f"[models.m]\n{table}")
    with pytest.raises(ConfigError) as refused:
        read_settings(None).model("m")
    assert refused.value.message.startswith("The model 'm' cannot be served as it is set. ")
    assert sentence in refused.value.message


def test_a_model_without_a_name_is_refused(folder: Path) -> None:
    write(folder, "[models.'']\nengine = 'echo'")
    with pytest.raises(ConfigError, match="A model's name has 1 to 200 characters"):
        read_settings(None).model("")


def test_a_folder_in_the_place_of_the_file_is_named(folder: Path) -> None:
    (folder / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match=r"^'locktender\.toml' is a folder: "):
        read_settings(None)
    with pytest.raises(ConfigError, match=r"^'.' is a folder: "):
        read_settings(Path())


def test_a_link_that_leads_nowhere_and_a_pipe_are_no_files(folder: Path) -> None:
    (folder / FILE_NAME).symlink_to("nowhere.toml")
    with pytest.raises(ConfigError, match=r"^'locktender\.toml' is no file that can be read"):
        read_settings(None)
    os.mkfifo(folder / "pipe.toml")
    with pytest.raises(ConfigError, match=r"^'pipe\.toml' is no file that can be read"):
        read_settings(Path("pipe.toml"))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^There is no file 'absent\.toml'\.$"):
        read_settings(Path("absent.toml"))


@pytest.mark.parametrize("content", [b"model_port = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match=r"^The file 'locktender\.toml' cannot be read: .+\.$"):
        read_settings(None)


def test_a_value_of_the_environment_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCKTENDER_MODEL_PORT", "low")
    with pytest.raises(ConfigError, match=r"^The setting `model_port` is wrong: "):
        read_settings(None)


def test_a_table_of_the_environment_that_is_not_json_is_not_blamed_on_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCKTENDER_MODELS", "{no")
    with pytest.raises(ConfigError, match="environment") as caught:
        read_settings(None)
    assert FILE_NAME not in caught.value.message


def test_a_table_of_the_environment_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKTENDER_MODELS", json.dumps({"m": {"engine": "echo"}}))
    assert read_settings(None).model("m").engine == "echo"


def test_a_flag_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^The setting `drain_s` is wrong: "):
        read_settings(None, drain_s=-1.0)


def test_values_that_cannot_work_together_are_refused_when_the_model_is_asked_for(
    folder: Path,
) -> None:
    write(folder, "[models.m]\nmax_tokens = 100")
    with pytest.raises(ConfigError, match="`default_max_tokens` must not be above `max_tokens`"):
        read_settings(None).model("m")


def test_who_may_come_in_is_read_from_file_environment_and_flags(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "api_key = 'from-the-file'\nallowed_hosts = ['a.example']\nidle_timeout_s = 9")
    monkeypatch.setenv("LOCKTENDER_CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("LOCKTENDER_MAX_CONNECTIONS", "7")
    doors = read_settings(None, host="box").doors
    assert doors.door.api_keys == ("from-the-file",)
    assert doors.door.hosts == ("box", "a.example")
    assert doors.door.cors_origins == ("https://a.example", "https://b.example")
    assert doors.connections == ConnectionSettings(max_connections=7, idle_timeout_s=9)
    monkeypatch.setenv("LOCKTENDER_API_KEY", "from-the-environment")
    assert read_settings(None).doors.door.api_keys == ("from-the-environment",)
    flags: dict[str, Any] = {"api_key": "from-a-flag", "allowed_hosts": ["b.example"]}
    assert read_settings(None, **flags).doors.door.api_keys == ("from-a-flag",)
    assert read_settings(None, **flags).doors.door.hosts == ("127.0.0.1", "b.example")


def test_nobody_is_kept_out_and_few_bounds_are_set_without_settings() -> None:
    assert read_settings(None).doors == Doors(DoorSettings(hosts=("127.0.0.1",)))


def test_proxies_are_trusted_that_uvicorn_would_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1,192.0.2.0/24")
    assert read_settings(None).doors.door.trusted_proxies == ("10.0.0.1", "192.0.2.0/24")
    monkeypatch.setenv("LOCKTENDER_TRUSTED_PROXIES", "*")
    assert read_settings(None).doors.door.trusted_proxies == ("*",)


@pytest.mark.parametrize("key", ["", "two words", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKTENDER_API_KEY", key)
    with pytest.raises(ConfigError, match="`api_key`") as refused:
        read_settings(None)
    assert not key or key not in refused.value.message


def test_a_key_is_in_no_text_of_the_settings() -> None:
    settings = read_settings(None, api_key="very-secret")
    assert "very-secret" not in f"{settings} {settings!r} {settings.doors!r}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "box"])  # noqa: S104 - it is refused
def test_all_the_network_comes_in_with_a_key_or_on_purpose_only(host: str) -> None:
    with pytest.raises(ConfigError, match=r"LOCKTENDER_API_KEY.*--insecure"):
        read_settings(None).check_exposure("127.0.0.1", host)
    read_settings(None, api_key="k").check_exposure(host)
    read_settings(None, insecure=True).check_exposure(host)
    for loopback in ("127.0.0.1", "::1", "localhost"):
        read_settings(None).check_exposure(loopback)


def test_the_models_stay_on_the_loopback_below_an_app_unless_asked(folder: Path) -> None:
    write(folder, "host = '192.0.2.7'")
    settings = read_settings(None)
    assert (settings.host_below_app, settings.host_of_models) == ("127.0.0.1", "192.0.2.7")
    settings = read_settings(None, model_host="192.0.2.8")
    assert (settings.host_below_app, settings.host_of_models) == ("192.0.2.8", "192.0.2.8")
    assert settings.doors_at("192.0.2.8").door.hosts == ("192.0.2.8",)
    assert settings.doors.door.hosts == ("192.0.2.7",)


def test_the_environment_alone_is_read_without_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "port = 9000\nthreads = 3")
    monkeypatch.setenv("LOCKTENDER_THREADS", "4")
    assert (read_environment(port=1).port, read_environment().threads) == (1, 4)
    monkeypatch.setenv("LOCKTENDER_THREADS", "0")
    with pytest.raises(ConfigError, match=r"^The setting `threads` is wrong: "):
        read_environment()
