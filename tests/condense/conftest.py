"""Small real data and small real experts for every test of condensation."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from condense.stages.experts import STAGE as EXPERTS
from datagen.contracts.stage import main

N_IMAGES = 300


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first handwritten digits of scikit-learn, as a user's .npz."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(path, image=pixels[:N_IMAGES], label=labels[:N_IMAGES])
    return path


@pytest.fixture(scope="session")
def experts(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts of six epochs on them."""
    folder = tmp_path_factory.mktemp("experts")
    out = folder / "experts"
    settings = ["net=convnet2", "width=4", "n_trajectories=2", "epochs=6", "learning_rate=0.2", "batch_size=32",
                "augmentation=none", "n_threads=1", "seed=0"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTILL_HOME", str(folder / "home"))
        assert main(EXPERTS, ["--images", str(digits), "--out", str(out), "--set", *settings]) == 0
    return out
