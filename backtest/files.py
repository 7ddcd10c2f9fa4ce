"""Files that a run gives."""

from pathlib import Path

from market.errors import WrongUse


def write(path: Path | str, data: bytes) -> Path:
    """Write a file, whole or not at all, make its folder where it is missing, and give its path.

    Raises:
        WrongUse: it cannot be written there.
    """
    where = Path(path)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        draft = where.with_name(f".{where.name}.draft")
        draft.write_bytes(data)
        draft.replace(where)
    except OSError as error:
        raise WrongUse(f"cannot write {where}: {error.strerror}") from error
    return where
