"""What every Python process of this image does first.

MLflow imports `mlflow.server.auth` at every search of runs and carries on without it if that fails, as it does here,
where basic authentication's packages are not installed. The attempt runs half of the module each time, and a second
search that comes meanwhile takes the half for the whole and is answered with 500. A module that is known to be missing
is not attempted.
"""

import sys

sys.modules["mlflow.server.auth"] = None  # type: ignore[assignment]
