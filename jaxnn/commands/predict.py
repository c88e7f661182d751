"""What `jaxnn predict` does."""

import sys

import jax
import numpy as np

from jaxnn import data
from jaxnn.commands.config import Predict
from jaxnn.storage import model_file, run_folder
from jaxnn.storage.run_record import MODEL


def predict(config: Predict) -> int:
    """Writes the predictions of a trained run.

    ValueError: the run or the rows cannot be read, or do not fit; a prediction is not finite; the file is there
    already, or cannot be written.
    """
    if config.out and config.out.exists():
        raise ValueError(f"{config.out} is there already: give --out another name, or move it away.")
    # x64: for a model in float64; others keep their dtype. errstate: what is not finite is said below
    with jax.enable_x64(True), np.errstate(all="ignore"):
        trained, _, remark = model_file.read(config.run / MODEL)
        y_hat = trained.predict(data.load_rows(config.rows, trained.features, len(trained.x_scale.shift)))
    finite = np.isfinite(y_hat).all(1)
    if not finite.all():
        raise ValueError(
            f"The prediction of row {np.argmin(finite)} of {config.rows} is not finite: {config.run} was trained on "
            "numbers of another size."
        )
    if trained.classes:
        scores = np.concatenate([1 - y_hat, y_hat], 1) if y_hat.shape[1] == 1 else y_hat
        columns = {"class": np.array(trained.classes)[scores.argmax(1)]}
        kind = "output" if trained.loss.takes == "values" else "P"  # of a squared error: no probabilities
        columns |= {f"{kind}({name})": scores[:, k] for k, name in enumerate(trained.classes)}
    else:
        columns = {name: y_hat[:, k] for k, name in enumerate(trained.targets)}
    if remark:
        print(remark, file=sys.stderr)
    run_folder.write_csv(config.out, columns)
    return 0
