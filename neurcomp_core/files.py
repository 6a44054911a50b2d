"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurcomp_core.errors import InputError


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` would make or replace; to ask before long work.

    Raises
    ------
    InputError
        If the folder is missing, or the target is not a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder; give a file name")
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write '{path}': it is not a regular file")
    if not target.parent.is_dir():
        raise InputError(f"cannot write '{path}': the folder '{target.parent}' does not exist")
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once the block ends without an exception.

    The temporary file keeps the extension (some writers look at it), is synced to the disk before the rename, and is
    removed on any exception. A symbolic link stays a link: the file it points to is replaced.

    Raises
    ------
    InputError
        If the folder is missing, the target is not a regular file, or the block or the rename raises OSError
        (no permission, disk full).

    Examples
    --------
    >>> with atomic_path("volume.nvc") as temporary:
    ...     temporary.write_bytes(b"...")
    """
    target = checked_path(path)
    # The stem is cut so that the temporary name stays within what file systems allow.
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Write `data` to `path`, wholly or not at all; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    # Makes the rename itself durable; not every system lets a folder be opened or synced.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
