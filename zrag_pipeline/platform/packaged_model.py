"""A checkpoint as a model that MLflow serves: the code that answers, its requirements, and the checkpoint's files.

    MLmodel, requirements.txt, ...      made by MLflow
    serving.py, code/zrag_core/         the code that answers, as it was when the model was registered
    artifacts/checkpoint/               the checkpoint: hard links where the file system has them
    artifacts/decoding.json             how it is read since it was promoted; before that, as the checkpoint says

Checkpoint files are never changed in place, so sharing them is safe and costs no space.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Mapping
from filecmp import cmp
from pathlib import Path
from typing import Any

import zrag_core
from zrag_core.files import atomic_folder, write_json_atomic

_CHECKPOINT = Path("artifacts", "checkpoint")
_DECODING = Path("artifacts", "decoding.json")
_UNFINISHED = ".unfinished"
_REQUIRED = "mlflow torch transformers tokenizers safetensors numpy pydantic pyyaml httpx openai".split()
_REQUIRED_BY_ADAPTERS = ["accelerate", "bitsandbytes", "peft"]
_EXAMPLE = {"input": [{"role": "user", "content": "Where was Orla Venn born?"}], "custom_inputs": {"budget": 256}}


def package_model(checkpoint: Path, destination: Path) -> None:
    """Write the model of a checkpoint folder to `destination`, whole or not at all.

    Nothing is loaded and nothing is inferred: this takes about as long as importing MLflow.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as temporary:
        # MLflow runs the example while it saves. It is shown a checkpoint that says that it is none yet.
        unfinished = Path(temporary, _CHECKPOINT.name)
        unfinished.mkdir()
        (unfinished / _UNFINISHED).touch()
        code = Path(temporary, "zrag_core")
        shutil.copytree(Path(zrag_core.__file__).parent, code, ignore=shutil.ignore_patterns("weights", "__pycache__"))
        with atomic_folder(destination) as folder:
            model = Model()
            mlflow.pyfunc.save_model(
                folder,
                mlflow_model=model,
                python_model=str(Path(__file__).with_name("serving.py")),
                artifacts={"checkpoint": str(unfinished)},
                code_paths=[str(code)],
                pip_requirements=requirements(checkpoint),
                input_example=_EXAMPLE,
            )
            shutil.rmtree(folder / _CHECKPOINT)
            shutil.copytree(checkpoint, folder / _CHECKPOINT, copy_function=_link)
            # What MLflow could not know of while there was no checkpoint.
            model.flavors[mlflow.pyfunc.FLAVOR_NAME]["artifacts"]["checkpoint"]["uri"] = checkpoint.absolute().as_uri()
            model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            model.save(folder / "MLmodel")


def is_packaged(checkpoint: Path, destination: Path) -> bool:
    """Whether `destination` is a model of exactly these files (of the same names and bytes)."""
    held, names = destination / _CHECKPOINT, _names(checkpoint)
    if not (destination / "MLmodel").is_file() or _names(held) != names:
        return False
    return all((held / n).samefile(checkpoint / n) or cmp(held / n, checkpoint / n, shallow=False) for n in names)


def set_decoding(model: Path, decoding: Mapping[str, Any]) -> None:
    """Say in the folder of a packaged model how its checkpoint is read from now on, where refusal begins included.

    A server reads it when it starts.

    Args:
        decoding: fields of the settings section `decoding`.
    """
    write_json_atomic(model / _DECODING, dict(decoding))


def requirements(checkpoint: Path) -> list[str]:
    """What has to be installed to serve the checkpoint, at the versions that are installed here."""
    names = _REQUIRED + (_REQUIRED_BY_ADAPTERS if (checkpoint / "adapter").is_dir() else [])
    # Without "+cpu" or "+cu128": which build it is, is the serving machine's choice.
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def _names(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
