"""Train a model on generated loans with the trainer's defaults, and store its files for other benchmarks.

python benchmarks/training/model.py FOLDER
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import mlflow

from trainer.pipeline import run
from trainer.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to create; an existing one is replaced")
    folder = parser.parse_args().folder.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tracking = f"sqlite:///{scratch}/mlflow.db"
        result = run(Settings(data="synthetic", tracking_uri=tracking, work_dir=Path(scratch) / "work"))
        uri = f"models:/{result.model_name}/{result.version}"
        files = mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking, dst_path=f"{scratch}/files")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(files, folder)
        # Make compares it with the trainer's sources.
        os.utime(folder)


if __name__ == "__main__":
    main()
