"""Builds the wheel (PEP 517), with Python alone: the package is pure Python, so a wheel is its files and three lists in a zip.

Most build tools would have to be downloaded first, and older ones cannot build a wheel by themselves; so `pip install` of this folder
works on a machine without a network, too.
"""

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
TAG = "py3-none-any"
#: Zip's first day: the same sources make the same wheel, whenever it is built.
DATE = (1980, 1, 1, 0, 0, 0)


def _project():
    """The plain strings of pyproject.toml's [project], which is all that it holds but the license's table."""
    table = (HERE / "pyproject.toml").read_text(encoding="utf-8").split("[project]")[1].split("\n[")[0]
    return dict(re.findall(r'^([\w-]+) = "(.*)"$', table, re.M))


def _metadata(project):
    head = {
        "Metadata-Version": "2.1",
        "Name": project["name"],
        "Version": project["version"],
        "Summary": project["description"],
        "License": "MIT",
        "Requires-Python": project["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    readme = (HERE / project["readme"]).read_text(encoding="utf-8")
    return "".join(f"{name}: {value}\n" for name, value in head.items()) + "\n" + readme


def _stem(project):
    return f"{project['name']}-{project['version']}"


def _sources():
    return sorted(path for path in (HERE / "switchyard").iterdir() if path.suffix == ".py" or path.name == "py.typed")


def _record(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def _wheel(directory, files):
    project = _project()
    info = f"{_stem(project)}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": _metadata(project).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: switchyard\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode(),
    }
    files[f"{info}/RECORD"] = ("".join(_record(name, data) for name, data in files.items()) + f"{info}/RECORD,,\n").encode()
    filename = f"{_stem(project)}-{TAG}.whl"
    with zipfile.ZipFile(Path(directory) / filename, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)
    return filename


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _wheel(wheel_directory, {f"switchyard/{path.name}": path.read_bytes() for path in _sources()})


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """For `pip install -e`: the wheel only says where this folder is."""
    return _wheel(wheel_directory, {"switchyard.pth": f"{HERE}\n".encode()})


def build_sdist(sdist_directory, config_settings=None):
    project = _project()
    filename = f"{_stem(project)}.tar.gz"
    with tarfile.open(Path(sdist_directory) / filename, "w:gz", format=tarfile.PAX_FORMAT) as sdist:
        for path in [HERE / "pyproject.toml", HERE / project["readme"], Path(__file__), *_sources()]:
            sdist.add(path, f"{_stem(project)}/{path.relative_to(HERE)}")
        data = _metadata(project).encode()
        entry = tarfile.TarInfo(f"{_stem(project)}/PKG-INFO")
        entry.size = len(data)
        sdist.addfile(entry, io.BytesIO(data))
    return filename
