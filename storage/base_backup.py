"""A base backup on disk: `base.tar.gz` and `pg_wal.tar.gz`, and PostgreSQL's manifest of what is in it.

One way leads through it: every file is read and held against the manifest's SHA-256, and written out where a
target is given. So what is restored was verified in the same pass.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from msgspec import DecodeError, Struct, field, json

from market.errors import Unavailable
from storage.server.account import Account

ARCHIVES = {"base.tar.gz": "", "pg_wal.tar.gz": "pg_wal"}
MANIFEST = "backup_manifest"
RECORD = "backup.json"
_PIECE = 2**20


class Backup(Struct, frozen=True, kw_only=True):
    """One base backup, as its `backup.json` has it; times are microseconds UTC of the server's clock.

    `first_segment` is the first file of the log that restoring it reads; `bytes` is what it takes on disk,
    `data_bytes` what it unpacks to.
    """

    name: str
    started: int
    finished: int
    timeline: int
    first_segment: str
    postgresql: str
    timescaledb: str
    bytes: int
    data_bytes: int


class _File(Struct, rename="pascal"):
    size: int
    path: str | None = None
    encoded: str | None = field(default=None, name="Encoded-Path")
    checksum: str = ""

    @property
    def name(self) -> str:
        return self.path if self.path is not None else bytes.fromhex(self.encoded or "").decode("latin-1")


class LogRange(Struct):
    """The part of the log that makes a backup consistent."""

    timeline: int = field(name="Timeline")
    start: str = field(name="Start-LSN")


class Manifest(Struct):
    """What PostgreSQL says is in a backup."""

    files: list[_File] = field(name="Files")
    ranges: list[LogRange] = field(name="WAL-Ranges")
    checksum: str = field(name="Manifest-Checksum")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the backup in `folder`, checked against its own checksum.

    Raises:
        Unavailable: it is missing or damaged.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        found = json.decode(data, type=Manifest)
    except (OSError, DecodeError) as error:
        raise Unavailable(f"the backup {folder} is damaged: {MANIFEST}: {error}") from None
    covered = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    if found.checksum != hashlib.sha256(covered).hexdigest():
        raise Unavailable(f"the backup {folder} is damaged: {MANIFEST} is not what was written")
    return found


def first_segment(manifest: Manifest, segment_bytes: int) -> tuple[int, str]:
    """The timeline of a backup, and the name of the first file of the log that it needs."""
    first = manifest.ranges[0]
    high, low = (int(part, 16) for part in first.start.split("/"))
    return first.timeline, f"{first.timeline:08X}{high:08X}{low // segment_bytes:08X}"


def verify(folder: Path) -> int:
    """Read the whole backup in `folder` and hold it against its manifest; how many bytes it unpacks to.

    Raises:
        Unavailable: something is missing or differs; the message says what.
    """
    return _read(folder, None)


def unpack(folder: Path, target: Path, account: Account) -> None:
    """Write the backup in `folder` into the new folder `target`, which is the account's; verified as it goes.

    Raises:
        Unavailable: the backup is damaged, or there is no room; what was written is then removed.
    """
    try:
        target.mkdir(mode=0o700)
        _read(folder, target)
        if not account.is_self:
            for path in (target, *target.rglob("*")):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise Unavailable(f"cannot unpack {folder} in {target}: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _read(folder: Path, target: Path | None) -> int:
    manifest = read_manifest(folder)
    expected = {file.name: file for file in manifest.files}
    total = 0
    for archive, place in ARCHIVES.items():
        for name, size, digest in _members(folder / archive, None if target is None else target / place):
            total += size
            if place or name == MANIFEST:
                continue  # the log has checksums of its own
            known = expected.pop(name, None)
            if known is None or (known.size, known.checksum) != (size, digest):
                raise Unavailable(f"the backup {folder} is damaged: {name} is not what was written")
    if missing := next(iter(expected), None):
        raise Unavailable(f"the backup {folder} is damaged: {missing} is missing")
    if target is not None:
        # It lies beside the archive, and belongs into the data folder.
        shutil.copyfile(folder / MANIFEST, target / MANIFEST)
    return total


def _members(archive: Path, target: Path | None) -> Iterator[tuple[str, int, str]]:
    """Name, size and SHA-256 of each file in an archive, written below `target` where one is given."""
    try:
        # PostgreSQL writes several gzip members, one after another, which tarfile alone does not read.
        with gzip.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                path = None if target is None else _inside(target, member.name)
                if member.isdir() and path is not None:
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, member.size, _copy(content, path)
            while plain.read(_PIECE):
                pass  # up to the checksum of the last part, which comes after the archive's end
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Unavailable(f"the backup {archive.parent} is damaged: {archive.name}: {error}") from None
    except FileNotFoundError:
        if archive.exists():
            raise
        raise Unavailable(f"the backup {archive.parent} is damaged: {archive.name} is missing") from None


def _inside(target: Path, name: str) -> Path:
    path = target / name.removeprefix("./")
    if ".." in path.parts or not path.is_relative_to(target):
        raise Unavailable(f"the backup is damaged: it holds {name}")
    return path


def _copy(content: IO[bytes], path: Path | None) -> str:
    """The SHA-256 of `content`, which is written to `path` where one is given."""
    digest = hashlib.sha256()
    if path is None:
        while piece := content.read(_PIECE):
            digest.update(piece)
        return digest.hexdigest()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as out:
        while piece := content.read(_PIECE):
            digest.update(piece)
            out.write(piece)
    path.chmod(0o600)
    return digest.hexdigest()
