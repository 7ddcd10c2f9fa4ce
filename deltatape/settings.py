"""Settings: a TOML file, then DELTATAPE_* environment variables, then flags, in rising order."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from deltatape.alert_options import AlertOptions
from market import Timeframe, WrongUse
from signals.options import SignalOptions
from storage import backup, database, server


def default_home() -> Path:
    """DELTATAPE_HOME, else the user's data folder; as root /var/lib/deltatape."""
    if home := os.environ.get("DELTATAPE_HOME"):
        return Path(home).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/deltatape")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "deltatape"


def config_file() -> Path:
    """The TOML file that settings are read from: DELTATAPE_CONFIG, else deltatape.toml in the home."""
    named = os.environ.get("DELTATAPE_CONFIG")
    return Path(named).expanduser() if named else default_home() / "deltatape.toml"


class CollectOptions(BaseModel):
    """One exchange that `deltatape up` collects from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: str
    symbols: tuple[str, ...] = Field(min_length=1)
    ws_url: str | None = None
    rest_url: str | None = None


class EndpointOptions(BaseModel):
    """Where `/metrics` and `/health` are answered, such as 127.0.0.1:9464; nowhere by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str | None = None


class DeadmanOptions(BaseModel):
    """The address that is asked for each `every` seconds while all is well: its owner alarms without."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = None
    every: float = Field(default=60.0, ge=1, le=86_400)

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: SecretStr | None) -> SecretStr | None:
        parts = urlsplit(url.get_secret_value()) if url else None
        if parts and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("write it like https://example.org/ping/your-id")
        return url


class BackupOptions(BaseModel):
    """Where the private server is backed up to, by `deltatape up` each `every_days`; nowhere by default.

    `keep` base backups stay; `waiting_bytes` of the log may wait while the folder cannot be written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    every_days: int = Field(default=7, ge=1)
    keep: int = Field(default=backup.KEEP, ge=1)
    waiting_bytes: int = Field(default=backup.MOST_WAITING_BYTES, gt=0)

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.expanduser().is_absolute():
            raise ValueError("write it from the root on, like /mnt/backups/deltatape")
        return folder and folder.expanduser()


class RoleOptions(BaseModel):
    """What `deltatape db roles` gives as passwords; without one, a role keeps the one that it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader_password: SecretStr | None = None
    writer_password: SecretStr | None = None


class SweepOptions(BaseModel):
    """One grid that `deltatape up` backtests each day, at the time `at` (HH:MM, UTC).

    Trading costs what it costs `deltatape backtest run`, unless it is said here. `folds` walks forward, see
    `backtest.folds`; `cluster` is a Dask scheduler's address: without one this machine's cores run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: str
    symbol: str
    timeframe: str
    strategy: str
    grid: dict[str, str] = Field(min_length=1)
    at: str = Field(default="02:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    capital: float = Field(default=10_000.0, gt=0)
    fee_bps: float | None = Field(default=None, ge=0)
    maker_bps: float | None = Field(default=None, ge=0)
    slippage_bps: float | None = Field(default=None, ge=0)
    latency: str | None = None
    participation: float = Field(default=0.0, ge=0, le=1)
    market_type: Literal["spot", "margin", "linear"] | None = None
    leverage: float = Field(default=1.0, ge=1)
    maintenance: float | None = Field(default=None, ge=0)
    funding: bool = True
    rank_by: str = "sharpe_ratio"
    keep: int = Field(default=3, ge=0)
    folds: int = Field(default=0, ge=0, le=100)
    cluster: str | None = None


class RetainOptions(BaseModel):
    """For how many days something stays in the database; of several that fit, the last one counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Literal["trades", "orderbook_snapshots", "cvd_snapshots", "candles"]
    days: Annotated[int, Field(ge=2)] | Literal["forever"]
    exchange: str | None = None
    symbol: str | None = None
    interval: Timeframe | None = None

    @model_validator(mode="after")
    def _interval_is_candles(self) -> Self:
        if self.interval is not None and self.table != "candles":
            raise ValueError("only candles have an interval")
        return self


class TierOptions(BaseModel):
    """Where files of old days are kept: a folder, or an address that fsspec knows, such as s3://bucket/tape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    tables: tuple[Literal["trades", "orderbook_snapshots", "cvd_snapshots"], ...] = (
        "trades",
        "orderbook_snapshots",
        "cvd_snapshots",
    )
    days: int = Field(default=7, ge=2)

    @field_validator("url")
    @classmethod
    def _is_one_place(cls, url: str | None) -> str | None:
        if url and "://" not in url and not Path(url).expanduser().is_absolute():
            raise ValueError("name the folder from the root on, like /mnt/tape")
        return str(Path(url).expanduser()) if url and "://" not in url else url


class UpkeepOptions(BaseModel):
    """What `deltatape up` does to old days, once a day at the time `at` (HH:MM, UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(default="03:30", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    compress: bool = True


class TelegramOptions(BaseModel):
    """A Telegram bot: its token, who may ask it, and how its pictures look.

    `api_url` is the Bot API's server; `webhook_url` is where Telegram reaches what listens on
    `webhook_listen`, and without one the bot asks for its updates itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr | None = None
    allowed_users: tuple[int, ...] = ()
    api_url: str = "https://api.telegram.org"
    theme: Literal["dark", "light"] = "dark"
    webhook_url: str | None = None
    webhook_listen: str = "127.0.0.1:8443"

    @field_validator("token")
    @classmethod
    def _is_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token and not re.fullmatch(r"\d+:[\w-]+", token.get_secret_value()):
            raise ValueError("it is none that @BotFather gives")
        return token

    @field_validator("api_url", "webhook_url")
    @classmethod
    def _is_web_address(cls, url: str | None) -> str | None:
        parts = urlsplit(url) if url else None
        if parts and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("write it like https://example.org")
        return url and url.rstrip("/")


class Settings(BaseSettings):
    """Everything that can be set. `home` holds the private server and the reports."""

    model_config = SettingsConfigDict(
        env_prefix="DELTATAPE_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )

    home: Path = Field(default_factory=default_home)
    database_url: str | None = None
    reader_url: str | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "WARNING"
    log_format: Literal["text", "json"] = "text"
    endpoint: EndpointOptions = Field(default_factory=EndpointOptions)
    deadman: DeadmanOptions = Field(default_factory=DeadmanOptions)
    telegram: TelegramOptions = Field(default_factory=TelegramOptions)
    backup: BackupOptions = Field(default_factory=BackupOptions)
    roles: RoleOptions = Field(default_factory=RoleOptions)
    signals: SignalOptions = Field(default_factory=SignalOptions)
    collect: tuple[CollectOptions, ...] = ()
    sweep: tuple[SweepOptions, ...] = ()
    retain: tuple[RetainOptions, ...] = ()
    tier: TierOptions = Field(default_factory=TierOptions)
    upkeep: UpkeepOptions = Field(default_factory=UpkeepOptions)
    alerts: AlertOptions = Field(default_factory=AlertOptions)
    spool_bytes: int = Field(default=4 * 1024**3, gt=0)

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @model_validator(mode="after")
    def _own_strategies(self) -> Self:
        if self.signals.folder is None:
            self.signals = replace(self.signals, folder=self.home / "strategies")
        return self

    @property
    def spool(self) -> Path:
        """Where collectors keep what the database does not take, at most `spool_bytes` each."""
        return self.home / "spool"

    def database_if_up(self) -> str:
        """The database's URL, whether it runs or not: what must be said without one starts none."""
        return self.database_url or server.url(self.home)

    def database(self) -> str:
        """The database's URL; starts the private server where no other is named, and fills an empty one."""
        if self.database_url:
            return self.database_url
        url = server.start(self.home)
        with database.connect(url) as connection:
            is_empty = database.schema_revision(connection) is None
        if is_empty:
            import migrations  # a quarter of a second, which only an empty database is worth

            migrations.upgrade(url)
        return url

    def reading(self) -> str:
        """The URL that `deltatape sql` and notebooks read with: the reader's, where one is named."""
        return self.reader_url or self.database()


def sweep_options(values: Mapping[str, Any]) -> SweepOptions:
    """What to sweep, from values by name.

    Raises:
        WrongUse: one makes no sense.
    """
    try:
        return SweepOptions(**values)
    except ValidationError as error:
        raise _refused(error) from None


def _refused(error: ValidationError) -> WrongUse:
    """What the first fault of some values is, in a line."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    return WrongUse(f"setting {'.'.join(map(str, first['loc']))}: {reason}")


def load(**flags: Any) -> Settings:
    """The settings in force; `flags` that are None count as not given.

    Raises:
        WrongUse: the file or a variable holds what cannot be.
    """
    named = os.environ.get("DELTATAPE_CONFIG")
    if named and not config_file().is_file():
        raise WrongUse(f"DELTATAPE_CONFIG names {named}, which is no file")
    try:
        found = Settings(**{name: value for name, value in flags.items() if value is not None})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"{config_file()} is no TOML: {error}") from None
    except ValidationError as error:
        raise _refused(error) from None
    # Machine code is kept in the home: the packages may lie where the user cannot write.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(found.home / "cache" / "numba"))
    return found
