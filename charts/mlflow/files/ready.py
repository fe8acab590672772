"""Exit with 0 if the server and its database answer a search of runs."""

from urllib.request import Request, urlopen

search = Request(
    "http://127.0.0.1:5000/api/2.0/mlflow/runs/search",
    b'{"experiment_ids": ["0"], "max_results": 1}',
    {"Content-Type": "application/json"},
)
urlopen(search, timeout=8)
