"""Score in Spark by MLflow's spark_udf, for the tests: `python spark_udfs.py MODEL INPUT VALID REASONS OUTPUT`.

Writes Parquet with the column `row` of the input: `results/`, by a model that was asked for results; and `alone/`, by
the model as it is, of the file of VALID applications. Both folders are replaced.
"""

from __future__ import annotations

import sys
from typing import Any

import mlflow
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import struct

from creditrisk_scoring.portable import BatchScorer

# MLflow's spark_udf has no whole numbers beside rows without one, and writes a text that is missing as "nan".
_TYPES = {"float": "float", "int32": "double", "string": "string"}


def main(model: str, source: str, valid: str, reasons: int, target: str) -> None:
    session = SparkSession.builder.getOrCreate()
    results = BatchScorer(model, reasons=reasons).results
    types = {field.name: _TYPES.get(str(field.type), "array<string>") for field in results}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    whole = mlflow.pyfunc.spark_udf(
        session, model, columns, env_manager="local", model_config={"results": True, "reasons": reasons}
    )
    found = _with(session.read.parquet(source), whole)
    whole_rows = found.selectExpr("row", *(_read(name, kind) for name, kind in types.items()))
    whole_rows.write.mode("overwrite").parquet(f"{target}/results")
    alone = mlflow.pyfunc.spark_udf(session, model, "float", env_manager="local")
    _with(session.read.parquet(valid), alone).write.mode("overwrite").parquet(f"{target}/alone")


def _read(name: str, kind: str) -> str:
    return f"nullif(found.{name}, 'nan') AS {name}" if kind == "string" else f"found.{name}"


def _with(loans: DataFrame, predict: Any) -> DataFrame:
    features = struct(*(name for name in loans.columns if name != "row"))
    return loans.select("row", predict(features).alias("found"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
