"""A disk that is soon full."""

import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tiny_disk(folder: Path, size: int = 200 * 1024):
    """Room for `size` bytes: a file system of that size, or where mounting is not allowed, such a limit."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
