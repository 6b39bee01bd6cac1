"""Content in a clone, where git-annex has it.

in: the .git folder, a key    out: the path of the object, or of where it is put

Format: git-annex documentation, "internals": the folder annex/objects.
"""

import os
from pathlib import Path

from icf_tools.model.key import AnnexKey, branch_directory, key_file, object_directory


def content_of(git_dir: Path, key: AnnexKey) -> Path | None:
    """The object, which is in one of two places; None where it is not in this clone."""
    name = key_file(key)
    for folder in (object_directory(key), branch_directory(key)):
        path = f"{git_dir}/annex/objects/{folder}/{name}/{name}"
        if os.path.isfile(path):
            return Path(path)
    return None


def place(git_dir: Path, key: AnnexKey) -> str:
    """Where the object belongs; its folder is there, and may be written to."""
    name = key_file(key)
    folder = f"{git_dir}/annex/objects/{object_directory(key)}/{name}"
    try:
        os.mkdir(folder)
    except FileExistsError:  # git-annex protects a folder that has had an object
        os.chmod(folder, os.stat(folder).st_mode | 0o200)
    except FileNotFoundError:
        os.makedirs(folder)
    return f"{folder}/{name}"


def put(file: str, git_dir: Path, key: AnnexKey) -> None:
    """Move a file of the object's folder to where it belongs; nobody may write there then."""
    folder = os.path.dirname(file)
    path = f"{folder}/{key_file(key)}"
    try:
        os.rename(file, path)
    except PermissionError:  # git-annex put it there meanwhile, and protects the folder
        os.rename(file, place(git_dir, key))
    os.chmod(folder, os.stat(folder).st_mode & 0o555)
