"""A version's files in a local folder, in the form that scoring pods get them from the operator.

contracts/artifact-copy.schema.json describes the manifest. Here each file is in one piece.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from trainer.errors import BadInputError
from trainer.export.contract import CONTRACT_FILE, MODEL_FILE, sha256_of

MANIFEST = "manifest.json"


def write_local_copy(
    target: Path, model: Path, *, name: str, version: str, run_id: str, metrics: Mapping[str, float]
) -> None:
    """Write a version's network, contract and manifest to a folder, which is created if it does not exist.

    Raises:
        BadInputError: The folder cannot be written.
    """
    files = (MODEL_FILE, CONTRACT_FILE)
    manifest = {
        "name": name,
        "version": version,
        "run_id": run_id,
        "digests": {file: sha256_of(model / file) for file in files},
        "metrics": dict(metrics),
        "files": {file: [file] for file in files},
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(model / file, target / file)
        # Last, because a reader takes the files once it finds the manifest.
        (target / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"--output {target}: {error.strerror}") from error
