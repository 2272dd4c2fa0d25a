"""Read the settings once, from `locktender.toml`, the environment and flags, and hand them out.

The last of these wins.  What the tables mean is each wing's; here names are mapped, and a mistake
becomes one sentence that says where it is.  Nobody else reads the environment.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from locktender.core.bounds import MOST_S
from locktender.core.errors import ConfigError
from locktender.core.log_line import LogFormat
from locktender.http.host import is_host, is_loopback
from locktender.http.settings import ConnectionSettings, Doors, DoorSettings, is_key
from locktender.model.engine import ENGINES, check_engine
from locktender.model.service import ServiceSettings
from locktender.model.settings import GateSettings, ModelSettings, SupervisionSettings
from locktender.model.source import is_folder

__all__ = ["FILE_NAME", "ModelTable", "Settings", "read_environment", "read_settings"]

FILE_NAME = "locktender.toml"
_LOOPBACK = "127.0.0.1"
_FOLDER_ENGINE = "transformers"  # where the source is a folder and no engine is named

_Slice = TypeVar("_Slice")


def _listed(given: object) -> object:
    """Take a list as the environment has one: names with commas between them."""
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return given


def _sendable(key: SecretStr) -> SecretStr:
    if not is_key(key.get_secret_value()):
        raise ValueError("it must be 1 to 512 visible ASCII characters without spaces")
    return key


def _no_flag_for_a_number(cls: type[BaseModel], given: Any) -> Any:
    """Refuse true where a number is asked for, and 1 where a flag is; to pydantic they are one."""
    for name, value in given.items() if isinstance(given, dict) else ():
        field = cls.model_fields.get(name)
        kinds = set() if field is None else {field.annotation, *get_args(field.annotation)}
        if isinstance(value, bool) and kinds & {int, float}:
            raise ValueError(f"`{name}` must be a number, not {str(value).lower()}")
        if isinstance(value, int | float) and bool in kinds and not isinstance(value, bool):
            raise ValueError(f"`{name}` must be true or false, not {value}")
    return given


def _listened_on(host: str) -> str:
    """Take an address as URLs have it, too; the name of every host is no place."""
    if not is_host(host) or "*" in host:
        raise ValueError(
            f"it must be an address or a name of this machine, without scheme and port, not "
            f"{host!r}: write for example `127.0.0.1`, or `0.0.0.0` for all its networks"
        )
    return host.strip("[]")


def _of_an_option(value: object) -> object:
    is_plain = isinstance(value, str | int | float)
    if not is_plain or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"it must be a text, a finite number, true or false, not {value!r}")
    return value


_Names = Annotated[list[str], NoDecode, BeforeValidator(_listed)]
_Key = Annotated[SecretStr, AfterValidator(_sendable)]
_Host = Annotated[str, Field(min_length=1), AfterValidator(_listened_on)]
_OptionValue = Annotated[str | int | float | bool, BeforeValidator(_of_an_option)]


class ModelTable(BaseModel):
    """One ``[models.NAME]``; what is left out has the defaults of `model.settings`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    _refuse_flags = model_validator(mode="before")(_no_flag_for_a_number)

    source: str | None = None
    engine: str | None = None
    preset: str | None = None
    options: dict[str, _OptionValue] = Field(default_factory=dict)

    max_running: int | None = None
    max_waiting: int | None = None
    max_wait_s: float | None = None
    timeout_s: float | None = None
    max_gate_tokens: int | None = None
    batch_share: float | None = None
    batches_share: float | None = None
    batches_slots: float | None = None
    max_outside: int | None = None
    default_max_tokens: int | None = None
    max_tokens: int | None = None
    ban_s: float | None = None

    replicas: int | None = None
    start_timeout_s: float | None = None
    hang_s: float | None = None
    max_failures: int | None = None
    backoff_s: float | None = None
    max_backoff_s: float | None = None
    stable_s: float | None = None
    canary: bool | None = None

    def settings(self, name: str) -> ModelSettings:
        """Return the settings of the model `name`.  Raises: ConfigError."""
        try:
            return self._checked(name)
        except ConfigError as error:
            message = f"The model {name!r} cannot be served as it is set. {error.message}"
            raise ConfigError(message) from error

    def _checked(self, name: str) -> ModelSettings:
        for field in ("source", "engine", "preset"):
            text = getattr(self, field)
            if text is not None and not text.strip():
                raise ConfigError(f"`{field}` must not be empty: name one, or leave it out.")
        if self.preset and "preset" in self.options:
            raise ConfigError("`preset` is set twice: leave it out of the table of options.")
        options = {**self.options, **({"preset": self.preset} if self.preset else {})}
        source = self.source or name
        engine = self.engine or (_FOLDER_ENGINE if is_folder(source) else None)
        model = replace(
            ModelSettings(name, source=source),
            **({"engine": engine} if engine else {}),
            options=tuple(sorted(options.items())),
            gate=_slice(GateSettings, self),
            supervision=_slice(SupervisionSettings, self),
        )
        check_engine(model.engine, model.options)
        return model


class Settings(BaseSettings):
    """All settings of a process."""

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        env_prefix="LOCKTENDER_",
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,  # which may be a key
    )

    _refuse_flags = model_validator(mode="before")(_no_flag_for_a_number)

    host: _Host = _LOOPBACK  # only this machine comes in
    port: int = Field(default=8000, ge=0, le=65535)  # the app's
    model_port: int = Field(default=8001, ge=0, le=65535)
    # The model layer's; None: the loopback below an app, and `host` where it is served alone.
    model_host: _Host | None = None
    workers: int = Field(default=1, ge=1, le=64)  # processes that serve the app
    # Of each worker, for what in a chain is synchronous: one for as long as that waits.
    threads: int = Field(default=128, ge=1, le=4096)
    api_key: _Key | None = None
    insecure: bool = False  # whether all the network may come in without a key
    allowed_hosts: _Names = Field(default_factory=list)
    cors_origins: _Names = Field(default_factory=list)
    # uvicorn's own name for it, by which users may have set it already
    trusted_proxies: _Names = Field(
        default_factory=lambda: _listed(os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")),
        validate_default=True,
    )
    root_path: str | None = None
    max_connections: int | None = None
    max_header_bytes: int | None = None
    max_headers: int | None = None
    header_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    send_timeout_s: float | None = None
    extensions: bool = True  # of the wire, where a runnable is served; False: LangServe's only
    # Served on, while `/readyz` says no more; and from then on, for those inside.
    drain_notice_s: float = Field(default=2.0, ge=0, le=MOST_S)
    drain_s: float = Field(default=30.0, ge=0, le=MOST_S)
    log_format: LogFormat | None = None  # None: text on a terminal, else JSON
    access_log: bool = False  # whether each request has a line in the log
    max_body_bytes: int | None = Field(default=None, ge=1)
    max_body_values: int | None = Field(default=None, ge=1)
    body_timeout_s: float | None = Field(default=None, gt=0)
    keep_alive_s: float | None = Field(default=None, gt=0)
    max_unread_bytes: int | None = Field(default=None, ge=0)
    unread_s: float | None = Field(default=None, gt=0)
    models: dict[str, ModelTable] = Field(default_factory=dict)

    @property
    def service(self) -> ServiceSettings:
        """The HTTP side's slice."""
        return _slice(ServiceSettings, self)

    @property
    def host_of_models(self) -> str:
        """Where the model layer listens that is served alone."""
        return self.model_host or self.host

    @property
    def host_below_app(self) -> str:
        """Where it listens below an app, whose workers are its callers: `host` is the app's."""
        return self.model_host or _LOOPBACK

    @property
    def doors(self) -> Doors:
        """Those of the app.  Raises: ConfigError."""
        return self.doors_at(self.host)

    def doors_at(self, host: str) -> Doors:
        """Who may come in to a server on `host`, and how many.  Raises: ConfigError."""
        door = DoorSettings(
            api_keys=(self.api_key.get_secret_value(),) if self.api_key else (),
            hosts=(host, *self.allowed_hosts),
            cors_origins=tuple(self.cors_origins),
            trusted_proxies=tuple(self.trusted_proxies),
            root_path=self.root_path or "",
        )
        return Doors(door, _slice(ConnectionSettings, self))

    def check_slices(self) -> None:
        """Refuse now what a wing will not take.  Raises: ConfigError."""
        for host in (self.host, self.host_of_models, self.host_below_app):
            self.doors_at(host)
        self.service  # noqa: B018 - it is checked as it is made

    def check_exposure(self, host: str, *more: str) -> None:
        """Refuse to let all the network in by mistake on one of these.  Raises: ConfigError."""
        exposed = [each for each in (host, *more) if not is_loopback(each)]
        if self.api_key or self.insecure or not exposed:
            return
        raise ConfigError(
            f"On {exposed[0]} others than this machine can come in: set a key "
            "(LOCKTENDER_API_KEY=..., or `api_key` in locktender.toml), or say --insecure where "
            "something in front asks for one."
        )

    def model(self, name: str) -> ModelSettings:
        """Return the settings of `name`, which need not have a table.  Raises: ConfigError."""
        return self.models.get(name, ModelTable()).settings(name)


def read_settings(path: Path | None, **flags: Any) -> Settings:
    """Read the settings from `path`, or from `FILE_NAME` here if it exists; `flags` win.

    Raises: ConfigError.
    """
    file = path or Path(FILE_NAME)
    if not file.is_file() and (path is not None or os.path.lexists(file)):
        raise ConfigError(_no_file(file))

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - nor secrets' folders
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            from_file = TomlConfigSettingsSource(settings_cls, file)
            return init_settings, env_settings, from_file

    return _made(FileSettings, str(file), flags)


def read_environment(**flags: Any) -> Settings:
    """Read the settings from the environment alone; `flags` win.  Raises: ConfigError."""
    return _made(Settings, "", flags)


def _made(kind: type[Settings], file: str, flags: Mapping[str, Any]) -> Settings:
    try:
        settings = kind(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(_told(error)) from error
    except SettingsError as error:  # A table that is not JSON: the file's are read as they are.
        message = f"The environment cannot be read: {error}."
        raise ConfigError(message) from error
    except (ValueError, OSError) as error:  # The file is not TOML, or not ours to read.
        message = f"The file {file!r} cannot be read: {error}."
        raise ConfigError(message) from error
    settings.check_slices()
    return settings


def _no_file(file: Path) -> str:
    if file.is_dir():
        return (
            f"{str(file)!r} is a folder: name a file of settings by --config, or move the folder."
        )
    if os.path.lexists(file):
        return f"{str(file)!r} is no file that can be read: name another one by --config."
    return f"There is no file {str(file)!r}."


def _told(error: ValidationError) -> str:
    """Return the first mistake, where it is, and what was probably meant."""
    first = error.errors(include_url=False)[0]
    *table, name = first["loc"] or [""]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        kind: type[BaseModel] = ModelTable if table[:1] == ["models"] else Settings
        if kind is ModelTable and any(name in engine.options for engine in ENGINES.values()):
            place = ".".join([*map(str, table), "options"])
            return f"`{where}` is an option of an engine: write `{name}` below `[{place}]`."
        near = get_close_matches(str(name), kind.model_fields, 1)
        meant = f" Is `{near[0]}` meant?" if near else ""
        return f"There is no setting `{where}`.{meant}"
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and said.startswith("`"):
        where = ".".join([*map(str, first["loc"]), said.split("`")[1]])
        said = said.rpartition("` ")[2]
    return f"The setting `{where}` is wrong: {said[:1].lower()}{said[1:]}."


def _slice(kind: type[_Slice], source: BaseModel) -> _Slice:
    """Build a wing's settings from those fields of `source` that it has and that are set."""
    names = getattr(kind, "__dataclass_fields__", {})
    given = {name: getattr(source, name) for name in names}
    return kind(**{name: value for name, value in given.items() if value is not None})
