"""Lay out a model's files as an MLflow model that `mlflow.pyfunc` and `mlflow.onnx` can load, without a pickle.

MLflow's own ONNX flavor would expect one tensor per input; this one ships a small module that accepts raw features.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

import yaml
from mlflow import pyfunc
from mlflow.models import Model

from trainer.export.contract import CONTRACT_FILE, MODEL_FILE
from trainer.export.reference import REFERENCE_FILE
from trainer.export.served import credit_risk_model

FLAVOR_NAME = "onnx"
_REQUIREMENTS = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")


def save_model(path: str, mlflow_model: Model, *, folder: Path) -> None:
    """Lay out an MLflow model at `path`; `mlflow.models.Model.log` dictates the function's name and arguments.

    Args:
        path: Folder to create.
        mlflow_model: The model to add the flavors to.
        folder: Folder with `model.onnx`, `contract.json` and `training-reference.json`.
    """
    target = Path(path)
    code = target / "code"
    code.mkdir(parents=True)
    for name in (MODEL_FILE, CONTRACT_FILE, REFERENCE_FILE):
        shutil.copyfile(folder / name, target / name)
    module = Path(credit_risk_model.__file__)
    shutil.copyfile(module, code / module.name)
    requirements = [f"{name}=={version(name)}" for name in _REQUIREMENTS]
    (target / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    environment = {"python": "3.11", "dependencies": ["-r requirements.txt"]}
    (target / "python_env.yaml").write_text(yaml.safe_dump(environment), encoding="utf-8")
    pyfunc.add_to_model(
        mlflow_model, loader_module=module.stem, code="code", python_env="python_env.yaml",
        model_config=dict(credit_risk_model.MODEL_CONFIG),
    )  # fmt: skip
    mlflow_model.add_flavor(
        FLAVOR_NAME,
        onnx_version=version("onnx"),
        data=MODEL_FILE,
        providers=["CPUExecutionProvider"],
        onnx_session_options=None,
        code="code",
    )
    mlflow_model.save(str(target / "MLmodel"))
