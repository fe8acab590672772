"""What tests of several kinds share: a small trained model, and where the real data is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data import Loans, read_loans
from trainer.export import write_contract, write_model
from trainer.fit import Hyperparameters, fit, predict
from trainer.network import Network

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_LOANS = REPOSITORY.parent / "shared" / "data" / "loans.csv"


@pytest.fixture(scope="session")
def synthetic_loans() -> Loans:
    """The built-in sample."""
    return read_loans("synthetic")


@pytest.fixture(scope="session")
def quick_network(synthetic_loans: Loans, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network after two epochs: good enough to tell loans apart."""
    torch.set_num_threads(1)
    half = len(synthetic_loans) // 2
    training, validation = synthetic_loans.rows(np.arange(half)), synthetic_loans.rows(np.arange(half, 2 * half))
    checkpoint = tmp_path_factory.mktemp("fit") / "checkpoint.pt"
    return fit(training, validation, Hyperparameters(epochs=2), checkpoint, lambda _: None)


@pytest.fixture(scope="session")
def model_folder(quick_network: Network, synthetic_loans: Loans, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the model contract, as training writes them."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    write_model(quick_network, synthetic_loans, folder)
    write_contract(
        folder / "contract.json",
        model_name="credit-risk",
        training=synthetic_loans,
        scores=predict(quick_network, synthetic_loans),
        threshold=0.3,
    )
    return folder
