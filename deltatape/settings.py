"""Settings: a TOML file, then DELTATAPE_* environment variables, then flags, in rising order."""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from market import WrongUse
from signals.options import SignalOptions
from storage import database, server


def default_home() -> Path:
    """DELTATAPE_HOME, else the user's data folder; as root /var/lib/deltatape."""
    if home := os.environ.get("DELTATAPE_HOME"):
        return Path(home).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/deltatape")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "deltatape"


def _config_file() -> Path:
    named = os.environ.get("DELTATAPE_CONFIG")
    return Path(named).expanduser() if named else default_home() / "deltatape.toml"


class Settings(BaseSettings):
    """Everything that can be set. `home` holds the private server, the spool and the reports."""

    model_config = SettingsConfigDict(env_prefix="DELTATAPE_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    database_url: str | None = None
    log_level: str = "INFO"
    signals: SignalOptions = Field(default_factory=SignalOptions)

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())

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


def load(**flags: Any) -> Settings:
    """The settings in force; `flags` that are None count as not given.

    Raises:
        WrongUse: the file or a variable holds what cannot be.
    """
    named = os.environ.get("DELTATAPE_CONFIG")
    if named and not _config_file().is_file():
        raise WrongUse(f"DELTATAPE_CONFIG names {named}, which is no file")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except tomllib.TOMLDecodeError as error:
        raise WrongUse(f"{_config_file()} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise WrongUse(f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
