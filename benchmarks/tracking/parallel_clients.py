"""MLflow's server with fifty clients at once: how it reaches its database, and how many workers it has.

Each setting runs on the same Postgres and SeaweedFS, one after the other, on loopback.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tests", "cluster/src", "images/mlflow/src", "images/training/src")
sys.path[:0] = [str(ROOT / source) for source in SOURCES]


def main():
    from environments import postgres_programs
    from postgres import Postgres
    from s3_store import s3_client, seaweedfs
    from unit.backup import services
    from unit.backup.parallel_clients import work

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    plain = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    settings = {
        "MLflow's default: a pool of 15": (1, plain),
        "a pool of 40": (1, plain | {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "20",
                                     "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "20"}),
        "no pool (the chart)": (1, services.SERVER_ENVIRONMENT),
        "no pool, 4 workers (MLflow's default)": (4, services.SERVER_ENVIRONMENT),
    }  # fmt: skip
    print(f"{'':38} {'clients':>7} {'errors':>6} {'req/s':>6} {'p50 ms':>7} {'p99 ms':>7} {'peak MiB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        postgres = Postgres(base / "server", postgres_programs(base / "programs"))
        postgres.start()
        try:
            with seaweedfs(base) as store:
                s3_client(store).create_bucket(Bucket=services.ARTIFACTS)
                for name, (workers, environment) in settings.items():
                    with services.mlflow_server(base, postgres, store, workers=workers, settings=environment) as server:
                        for clients in (1, options.clients):
                            load = work(server, clients, options.epochs)
                            rate = len(load.seconds) / load.elapsed
                            p50, p99 = (load.quantile(share) * 1000 for share in (0.5, 0.99))
                            print(f"{name:38} {clients:>7} {load.errors.total():>6} {rate:>6.0f} {p50:>7.0f} "
                                  f"{p99:>7.0f} {load.peak_bytes >> 20:>8}", flush=True)  # fmt: skip
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
